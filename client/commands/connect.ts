import { nearestName } from '../../base/nearest-name.ts';
import { parseTarget, parseTargetParts } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { reportError } from '../errors/report.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { gatewayRoute } from '../connect/gateway-route.ts';
import { CallerWatch } from '../connect/caller-watch.ts';
import { preconnect } from '../connect/preconnect.ts';
import { userPaths } from '../os/xdg-paths.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { configureZeroCopy } from '../../stream/zero-copy/setting.ts';
import { readSettings } from '../settings.ts';
import type { Flags } from '../settings.ts';

/** The arguments of `connect`, unparsed. */
export interface ConnectArguments {
  readonly flags: Flags;
  readonly host: string;
  readonly port?: string;
}

/** Runs `postern connect` and resolves to its exit code. Failures have been reported by then. */
export async function connect(args: readonly string[], env: Environment): Promise<number> {
  let host: string | undefined;
  try {
    const parsed = parseConnect(args);
    if (parsed === 'help') return (await import('./run.ts')).run('help', ['connect'], env);
    host = parsed.host;
    return await tunnel(parsed, env);
  } catch (error) {
    const failure = toFailure(error);
    reportError(failure, userPaths(env).state, host);
    return failure.facts.exit;
  }
}

async function tunnel(parsed: ConnectArguments, env: Environment): Promise<number> {
  const target = parseHost(parsed);
  const settings = readSettings(parsed.flags, env);
  configureZeroCopy(env.POSTERN_ZERO_COPY);
  const route = gatewayRoute(settings);
  const caller = new CallerWatch();
  const early = preconnect(settings, route);
  try {
    await early?.begun;
    const { runTunnel } = await import('../connect/run-tunnel.ts');
    return await runTunnel(target, settings, route, caller);
  } finally {
    early?.stop();
    caller.stop();
  }
}

const valued = {
  '--gateway': 'gateway',
  '--via': 'via',
  '--ca-file': 'caFile',
  '--token-file': 'tokenFile',
} as const;

/** Parses the arguments without `parseArgs`: this runs before every ssh. Throws `USAGE`. */
export function parseConnect(args: readonly string[]): ConnectArguments | 'help' {
  const flags: { -readonly [K in keyof Flags]: Flags[K] } = {};
  const words: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const word = args[at]!;
    if (word === '--') {
      words.push(...args.slice(at + 1));
      break;
    }
    if (!word.startsWith('-')) {
      words.push(word);
      continue;
    }
    if (word === '-h' || word === '--help') return 'help';
    const [name, attached] = splitFlag(word);
    if (!Object.hasOwn(valued, name)) throw unknownOption(name);
    const value = attached ?? args[++at];
    if (value === undefined || value === '') throw usage(`${name} needs a value`);
    flags[valued[name as keyof typeof valued]] = value;
  }
  const [host, port, ...rest] = words;
  if (host === undefined) throw usage('connect needs a host');
  if (rest.length > 0) throw usage('connect takes a host and a port at most');
  return { flags, host, ...(port === undefined ? {} : { port }) };
}

function splitFlag(word: string): [name: string, value: string | undefined] {
  const equals = word.indexOf('=');
  return equals === -1 ? [word, undefined] : [word.slice(0, equals), word.slice(equals + 1)];
}

/** Parses the target: ssh passes IPv6 addresses without brackets, people write `box:2222`. Throws `TARGET_INVALID`. */
function parseHost({ host, port }: ConnectArguments): Target {
  if (port !== undefined) return parseTargetParts(host, port);
  return /^[^[\]]*:[^[\]]*:/.test(host) ? parseTargetParts(host, '22') : parseTarget(host);
}

function unknownOption(name: string): ClientError {
  const near = name.length > 2 ? nearestName(name, [...Object.keys(valued), '--help']) : undefined;
  return usage(`connect has no option ${name}${near === undefined ? '' : `; did you mean ${near}?`}`);
}

function usage(what: string): ClientError {
  return new ClientError('USAGE', what, { hint: 'postern connect --help' });
}
