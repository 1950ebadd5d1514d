#!/usr/bin/env node
import { check } from './commands/check.ts';
import type { Command } from './commands/command.ts';
import { explain } from './commands/explain.ts';
import { printConfigCommand } from './commands/print-config.ts';
import { serve } from './commands/serve.ts';
import { token } from './commands/token.ts';
import { verifyAudit } from './commands/verify-audit.ts';
import { nodeProblem } from './node-floor.ts';
import { version } from './version.ts';

const help = `Runs the gateway:  postern-gateway serve --config /etc/postern/postern.yaml

Usage: postern-gateway <command> [options]

Commands:
  serve                   take SSH in through the web server; SIGHUP reloads, SIGTERM drains
  check                   say every problem of the configuration, with file and line
  explain                 say which rule decides for a person and a host, and why
  token                   make a token with the gateway's own key
  print-config            print the configuration for nginx, haproxy, caddy, apache or systemd
  verify-audit            check that no line of the audit log was changed or taken out

Options:
  --config FILE           the configuration (default: postern.yaml)
  --init                  with serve: write a configuration with safe defaults if there is none
  -h, --help              this text; after a command: its own
  --version               the version

postern-gateway explain --as CLAIMS.json <host[:port]>
postern-gateway token --subject S [--group G]... [--target T]... [--ttl 8h]
postern-gateway print-config nginx|haproxy|caddy|apache|systemd
postern-gateway verify-audit FILE

Environment: POSTERN__SECTION__KEY overrides a setting, for example POSTERN__LIMITS__TUNNELS=100.
Exit codes: 0 done, 1 failure, 2 usage or a configuration with problems, 77 denied (explain), 78 this Node.js is too old.
`;

const commands: Readonly<Record<string, Command>> = {
  serve,
  check,
  explain,
  token,
  'print-config': printConfigCommand,
  'verify-audit': verifyAudit,
};

/** Runs one command; resolves to the exit code. */
async function main([name, ...args]: string[]): Promise<number> {
  const { stdout, stderr, env } = process;
  if (name === '--version') return say(stdout, `${version}\n`, 0);
  if (name === '-h' || name === '--help' || args.includes('--help') || args.includes('-h'))
    return say(stdout, help, 0);
  if (name === undefined) return say(stderr, help, 2);
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command)
    return say(stderr, `postern-gateway: there is no command "${name}"; see postern-gateway --help\n`, 2);
  const problem = nodeProblem();
  if (problem) return say(stderr, `postern-gateway: ${problem}\n`, 78);
  try {
    return await command(args, { stdout, stderr, env });
  } catch (error) {
    return say(
      stderr,
      `postern-gateway: ${(error as Error).message}
`,
      1,
    );
  }
}

function say(stream: NodeJS.WriteStream, text: string, exitCode: number): number {
  stream.write(text);
  return exitCode;
}

process.exitCode = await main(process.argv.slice(2));
