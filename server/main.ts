#!/usr/bin/env node
import type { Command } from './commands/command.ts';
import { nodeProblem } from './runtime/node-version.ts';
import { version } from './runtime/version.ts';
import { configureZeroCopy } from '../stream/zero-copy/setting.ts';

const help = `Runs the gateway:  postern-gateway serve --config /etc/postern/postern.yaml

Usage: postern-gateway <command> [options]

  serve [--init]
      take SSH in through the web server; a second one takes over from the one that runs, without losing a session
      SIGHUP reloads, SIGTERM stops, SIGUSR2 starts the program again and lets it take over
      --init            write a configuration with safe defaults first, if there is none
  check
      say every problem of the configuration, with file and line
  explain --as CLAIMS.json <host[:port]>
      say which rule decides for a person and a host, and why
      --as CLAIMS.json  a file with the claims of a token, such as {"sub": "alice", "groups": ["dev"]}
  token --subject S [--group G]... [--target T]... [--ttl 8h]
      make a token with the gateway's own key, and print it
      --subject S       whose token it is; rules name subjects and groups
      --group G         a group of that person, as often as needed
      --target T        narrow the token to a target pattern, as often as needed
      --ttl T           how long it is good: 30m, 8h, 7d (default: 8h, at most 30d)
  user add NAME [--group G]... | passwd NAME | groups NAME [--group G]... | disable NAME | enable NAME | list
      accounts of the gateway itself, for people without an identity provider
      --group G         a group of that person, as often as needed
      --totp            with a one-time code; prints what an authenticator app takes
      --no-totp         without one any more
      --password-stdin  take the password from the first line of stdin, not from the terminal
      --json            list as JSON
  sessions [--json]
      show the sessions of the running gateway
  kill SESSION... | --subject S [--revoke] | --target T | --token ID | --key THUMBPRINT [--reason TEXT]
      end sessions of the running gateway
      --subject S       all of that person
      --revoke          and believe nothing that was given to that person until now
      --target T        all to that host, or host:port
      --token ID        all of that token (jti), which is not believed any more
      --key THUMBPRINT  all of the tokens that are bound to that key, which are not believed any more
      --reason TEXT     for the log and the audit
  doctor [--host HOST] [--idle] [--json] [--ca-file FILE] [URL]
      look at the gateway and the web server before it from outside, and say what to change in its configuration
      --host HOST       open a tunnel to it too, by a token of the gateway's own key
      --idle            hold connections longer than client and gateway are silent (35 s instead of 2 s)
      --ca-file FILE    believe these certificates too, PEM
      --json            the findings as JSON
  print-config nginx|haproxy|caddy|apache|systemd
      print a configuration for the program before the gateway, filled in
  verify-audit FILE
      check that no line of the audit log was changed or taken out

Options of every command but verify-audit:
  --config FILE         the configuration (default: ./postern.yaml)

  -h, --help            this text
  --version             the version

Environment: POSTERN__SECTION__KEY overrides a setting, for example POSTERN__LIMITS__TUNNELS=100.
Exit codes: 0 done, 1 failure, 2 usage or a configuration with problems, 77 denied (explain), 78 this Node.js is too old.
`;

/** Each is loaded when it is asked for: a token should not wait for a web server. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import('./commands/serve.ts')).serve,
  check: async () => (await import('./commands/check.ts')).check,
  explain: async () => (await import('./commands/explain.ts')).explain,
  token: async () => (await import('./commands/token.ts')).token,
  user: async () => (await import('./commands/user.ts')).user,
  sessions: async () => (await import('./commands/sessions.ts')).sessions,
  kill: async () => (await import('./commands/kill.ts')).kill,
  'print-config': async () => (await import('./commands/print-config.ts')).printConfigCommand,
  doctor: async () => (await import('./commands/doctor.ts')).doctor,
  'verify-audit': async () => (await import('./commands/verify-audit.ts')).verifyAudit,
};

/** Runs one command; resolves to the exit code. */
async function main([name, ...args]: string[]): Promise<number> {
  const { stdout, stderr, env } = process;
  if (name === '--version') return say(stdout, `postern-gateway ${version}\n`, 0);
  if (name === '-h' || name === '--help' || args.includes('--help') || args.includes('-h'))
    return say(stdout, help, 0);
  if (name === undefined) return say(stderr, help, 2);
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!load)
    return say(stderr, `postern-gateway: there is no command "${name}"; see postern-gateway --help\n`, 2);
  const problem = nodeProblem();
  if (problem) return say(stderr, `postern-gateway: ${problem}\n`, 78);
  try {
    configureZeroCopy(env.POSTERN_ZERO_COPY);
    const command = await load();
    return await command(args, {
      // Opened when it is read: a service may have none.
      get stdin() {
        return process.stdin;
      },
      stdout,
      stderr,
      env,
    });
  } catch (error) {
    return say(stderr, `postern-gateway: ${(error as Error).message}\n`, 1);
  }
}

function say(stream: NodeJS.WriteStream, text: string, exitCode: number): number {
  stream.write(text);
  return exitCode;
}

process.exitCode = await main(process.argv.slice(2));
// A connection that is over, but whose peer does not go away, is not waited for.
setTimeout(() => process.exit(), 1000).unref();
