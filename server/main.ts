#!/usr/bin/env node
import type { Writable } from 'node:stream';
import { nearestName } from '../base/nearest-name.ts';
import { WatchedOutput, standardOutput } from '../base/standard-output.ts';
import type { CommandIo } from './commands/command.ts';
import { commands } from './commands/registry.ts';
import { holdSignals } from './runtime/early-signals.ts';
import { nodeProblem } from './runtime/node-version.ts';
import { version } from './runtime/version.ts';
import { configureZeroCopy } from '../stream/zero-copy/setting.ts';

const help = `Runs the gateway:  postern-gateway serve --config /etc/postern/postern.yaml

Usage: postern-gateway <command> [options]

  serve [--init]
      serve SSH through the web server; a second process takes over from the running one without losing a session
      SIGHUP reloads, SIGUSR1 reopens the audit, SIGTERM stops, SIGUSR2 starts the program again and lets it take over
      --init            write a configuration with safe defaults first, if there is none
  check
      report every problem in the configuration, with file and line
  explain --as CLAIMS.json <host[:port]>
      show which rule decides for a person and a host, and why
      --as CLAIMS.json  a file with the claims of a token, for example {"sub": "alice", "groups": ["dev"]}
  token --subject S [--group G]... [--target T]... [--ttl 8h] [--out FILE] [--new-key]
      print a new token signed with the gateway's own key
      --subject S       the subject of the token; rules name subjects and groups
      --group G         a group of the subject; can be repeated
      --target T        restrict the token to a target pattern; can be repeated
      --ttl T           its lifetime: 30m, 8h, 7d (default: 8h, at most 30d)
      --out FILE        write it to a file that only you can read
      --new-key         make a key if the key file is missing, even where the store remembers another
  user add NAME [--group G]... | passwd NAME | groups NAME [--group G]... | disable NAME | enable NAME | list
      manage accounts of the gateway itself, for users without an identity provider
      --group G         a group of the account; can be repeated
      --totp            require a one-time code; prints the URL for an authenticator app
      --no-totp         no longer require a one-time code
      --password-stdin  read the password from the first line of stdin, not from the terminal
      --json            print the list as JSON
  sessions [--json]
      list the sessions of the running gateway
  kill SESSION... | --subject S [--revoke] | --target T | --token ID | --key THUMBPRINT
      end sessions of the running gateway
      --subject S       all sessions of that subject
      --revoke          also revoke every token issued to that subject so far
      --target T        all sessions to that host, or host:port
      --token ID        all sessions of that token (jti); also revokes it
      --key THUMBPRINT  all sessions of tokens bound to that key; also revokes these tokens
      --reason TEXT     for the log and the audit
      --json            print what was ended and revoked, and until when, as JSON
  doctor [--host HOST] [--idle] [--json] [--ca-file FILE] [URL]
      check the gateway and the web server in front of it from outside, and show what to change in the web server
      --host HOST       also open a tunnel to it, with a token signed with the gateway's own key
      --idle            hold connections longer than client and gateway stay silent (35 s instead of 2 s)
      --ca-file FILE    additional CA certificates to trust, in PEM
      --json            print the findings as JSON
  print-config nginx|haproxy|caddy|apache|systemd
      print a configuration for the web server or systemd, filled in from this one
  verify-audit [--from NUMBER:HASH] [--json] FILE...
      check that no line of the audit log was changed or removed
      --from N:HASH     a record that was noted earlier, or a file with it: it must still be there; 0 is the beginning
      --json            print what was found as JSON

Options of every command but verify-audit:
  --config FILE         the configuration (default: ./postern.yaml)

  -h, --help            this text
  --version             print the version

Environment: POSTERN__SECTION__KEY overrides a setting, for example POSTERN__LIMITS__TUNNELS=100.
Exit codes: 0 done, 1 failure, 2 usage or a configuration with problems, 77 denied (explain), 78 this Node.js is too old.
`;

/**
 * Runs one command; resolves to the exit code once its output is written. When the reader of the output leaves, that changes
 * nothing; output that cannot be written is a failure.
 */
async function main(args: string[]): Promise<number> {
  const { stderr, env } = process;
  // A command goes on without stderr, as without a reader of its log.
  stderr.on('error', () => {});
  const output = new WatchedOutput(standardOutput());
  const io = {
    // Opened at its first use: a service can be without one.
    get stdin() {
      return process.stdin;
    },
    stdout: output.stream,
    stderr,
    env,
  };
  const exit = await run(args, io);
  const failure = await output.flushed();
  if (failure) stderr.write(`postern-gateway: cannot write the output: ${failure.message}\n`);
  return failure && exit === 0 ? 1 : exit;
}

async function run([name, ...args]: string[], io: CommandIo): Promise<number> {
  const { stdout, stderr, env } = io;
  if (name === '--version') return write(stdout, `postern-gateway ${version}\n`, 0);
  if (name === '-h' || name === '--help' || args.includes('--help') || args.includes('-h'))
    return write(stdout, help, 0);
  if (name === undefined) return write(stderr, help, 2);
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!load) return write(stderr, `postern-gateway: ${unknownCommand(name)}\n`, 2);
  const problem = nodeProblem();
  if (problem) return write(stderr, `postern-gateway: ${problem}\n`, 78);
  try {
    configureZeroCopy(env['POSTERN_ZERO_COPY']);
    const command = await load();
    return await command(args, io);
  } catch (error) {
    return write(stderr, `postern-gateway: ${(error as Error).message}\n`, 1);
  }
}

function unknownCommand(name: string): string {
  const near = nearestName(name, Object.keys(commands));
  const advice = near === undefined ? 'see postern-gateway --help' : `did you mean ${near}?`;
  return `there is no command "${name}"; ${advice}`;
}

function write(stream: Writable, text: string, exitCode: number): number {
  stream.write(text);
  return exitCode;
}

if (process.argv[2] === 'serve') holdSignals(process.env);
process.exitCode = await main(process.argv.slice(2));
// A finished connection whose peer does not close it must not keep the process alive.
setTimeout(() => process.exit(), 1000).unref();
