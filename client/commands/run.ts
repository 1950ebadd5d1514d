import { nearestName } from '../../base/nearest-name.ts';
import { WatchedOutput, standardOutput } from '../../base/standard-output.ts';
import { tunnelErrors } from '../../protocol/errors.ts';
import { formatError, writeStderr } from '../errors/report.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { help } from './help.ts';
import type { HelpTopic } from './help.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { printable } from '../os/terminal.ts';
import { version } from '../os/version.ts';
import { configureZeroCopy } from '../../stream/zero-copy/setting.ts';

type Print = (text: string) => void;
type Command = (args: readonly string[], env: Environment, print: Print) => number | Promise<number>;

const commands: Readonly<Record<Exclude<HelpTopic, '' | 'connect'>, () => Promise<Command>>> = {
  login: async () => (await import('./login.ts')).login,
  logout: async () => (await import('./logout.ts')).logout,
  status: async () => (await import('./status.ts')).status,
  hosts: async () => (await import('./hosts.ts')).hosts,
  ticket: async () => (await import('./ticket.ts')).ticket,
  listen: async () => (await import('./listen.ts')).listen,
  setup: async () => (await import('./setup.ts')).setup,
  doctor: async () => (await import('./doctor.ts')).doctor,
};

/**
 * Runs any command but `connect` and resolves to its exit code, once its output is written. When the reader of the output
 * leaves, that changes nothing; when it cannot be written, that is reported at once, and the exit code of success becomes
 * that of `OUTPUT_FAILED`.
 */
export async function run(
  command: string | undefined,
  args: readonly string[],
  env: Environment,
): Promise<number> {
  const output = new WatchedOutput(standardOutput(), (cause) => {
    const what = `cannot write the output: ${cause.message}`;
    writeStderr(formatError(new ClientError('OUTPUT_FAILED', what, { cause })));
  });
  const exit = await runWith((text) => void output.stream.write(text), command, args, env);
  const failure = await output.flushed();
  return exit === 0 && failure !== undefined ? tunnelErrors.OUTPUT_FAILED.exit : exit;
}

async function runWith(
  print: Print,
  command: string | undefined,
  args: readonly string[],
  env: Environment,
): Promise<number> {
  const show = (text: string): number => {
    print(text);
    return 0;
  };
  try {
    if (command === undefined) {
      writeStderr(help['']);
      return 2;
    }
    if (command === '--version') return show(`postern ${version}\n`);
    if (command === '--help' || command === '-h') return show(help['']);
    if (command === 'help') return show(help[topic(args[0])]);
    if (!isCommand(command)) throw unknownCommand(command);
    const end = args.indexOf('--');
    const options = end === -1 ? args : args.slice(0, end);
    if (options.includes('--help') || options.includes('-h')) return show(help[command]);
    configureZeroCopy(env.POSTERN_ZERO_COPY);
    const start = await commands[command]();
    return await start(args, env, print);
  } catch (error) {
    const failure = toFailure(isParseError(error) ? usage(error, command) : error);
    writeStderr(formatError(failure));
    return failure.facts.exit;
  }
}

function unknownCommand(text: string): ClientError {
  const near = nearestName(text, [...Object.keys(help).filter((name) => name !== ''), 'help']);
  const suggestion = near === undefined ? '' : `; did you mean ${near}?`;
  return new ClientError('USAGE', `there is no command ${printable(text)}${suggestion}`);
}

function isCommand(text: string): text is keyof typeof commands {
  return Object.hasOwn(commands, text);
}

function topic(text = ''): HelpTopic {
  if (Object.hasOwn(help, text)) return text as HelpTopic;
  throw unknownCommand(text);
}

/** Whether `parseArgs` of Node.js threw this. */
function isParseError(error: unknown): error is Error {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  return error instanceof Error && code !== undefined && code.startsWith('ERR_PARSE_ARGS_');
}

function usage(cause: Error, command: string | undefined): ClientError {
  // Node adds advice after the first sentence.
  const what = cause.message.split('. ')[0]!;
  return new ClientError('USAGE', what.charAt(0).toLowerCase() + what.slice(1), {
    cause,
    hint: `postern ${command} --help`,
  });
}
