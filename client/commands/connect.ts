import type { Duplex } from 'node:stream';
import { parseTarget, parseTargetParts } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import type { Egress } from '../egress/egress.ts';
import { loadEntry, openTunnel } from '../entry/choose.ts';
import type { Later } from '../entry/entry.ts';
import { entryMemory } from '../entry/memory.ts';
import { report, sayInSession } from '../explain.ts';
import { Failure, toFailure } from '../failure.ts';
import { places } from '../places.ts';
import type { Environment } from '../places.ts';
import { readSettings } from '../settings.ts';
import type { Flags, Settings } from '../settings.ts';
import { connectionAges } from '../resume/connection-ages.ts';
import { tunnelFile } from '../resume/tunnel-file.ts';
import { carry } from '../stdio.ts';
import { hasTerminal } from '../terminal.ts';
import { withPass } from '../token/pass.ts';
import { signInDirectory } from '../token/sign-in.ts';
import { wayOut } from '../way-out.ts';

/** From the first packet to the open tunnel; ssh itself should wait longer than this. */
const openMs = 30_000;

/** The arguments of `connect`: `host` and `port` as they were written. */
export interface ConnectArguments {
  readonly flags: Flags;
  readonly host: string;
  readonly port?: string;
}

/** Runs `postern connect` to its exit code. Failures have been told when it returns. */
export async function connect(args: readonly string[], env: Environment): Promise<number> {
  let asked: string | undefined;
  try {
    const parsed = parseConnect(args);
    if (parsed === 'help') {
      const { help } = await import('../help.ts');
      process.stdout.write(help.connect);
      return 0;
    }
    asked = parsed.host;
    return await tunnel(parsed, env);
  } catch (error) {
    const failure = toFailure(error);
    report(failure, places(env).state, asked);
    return failure.facts.exit;
  }
}

async function tunnel(parsed: ConnectArguments, env: Environment): Promise<number> {
  const target = parseAsked(parsed);
  const settings = readSettings(parsed.flags, env);
  const egress = wayOut(settings);
  let stream;
  try {
    stream = await open(target, settings, egress);
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'TOKEN_MISSING' && maySignIn(settings))) throw error;
    await signInFirst(settings, egress);
    stream = await open(target, settings, egress);
  }
  try {
    return await carry(stream, { input: process.stdin, output: process.stdout, signals: process });
  } catch (error) {
    // What is told of it begins a line of its own.
    sayInSession('');
    throw error;
  }
}

function open(target: Target, settings: Settings, egress: Egress): Promise<Duplex> {
  const { gateway, via, token: sources, places: here } = settings;
  const signal = AbortSignal.timeout(openMs);
  const memory = entryMemory(here.state);
  const later: Later = {
    ages: connectionAges(signInDirectory(here.state, gateway)),
    watch: tunnelFile(here.state, { gateway, target }),
    withPass: (signal, use) => withPass({ sources, gateway, egress, signal }, use),
    say: sayInSession,
    onEntry: (name) => memory.keep(gateway, name),
    ...(via === undefined && {
      heldBack: {
        recall: () => memory.recallHeldBack(gateway),
        keep: () => memory.keepHeldBack(gateway),
      },
    }),
  };
  return withPass({ sources, gateway, egress, signal }, ({ token, prove }) =>
    openTunnel({ gateway, target, token, ...(prove === undefined ? {} : { prove }), later }, egress, {
      load: loadEntry,
      memory,
      signal,
      ...(via === undefined ? {} : { via }),
    }),
  );
}

/** Somebody has to be there to see a browser come up; scripts and IDEs get an answer at once. */
function maySignIn({ asking }: Settings): boolean {
  return asking.isAllowed && hasTerminal();
}

/** ssh may lose its patience in the meantime; the sign-in is finished all the same, for the next one. */
async function signInFirst(settings: Settings, egress: Egress): Promise<void> {
  const { gateway, asking, places: here } = settings;
  const { signInOnce } = await import('../token/single-sign-in.ts');
  await signInOnce({
    state: here.state,
    gateway,
    egress,
    device: false,
    browser: asking.browser,
    hangup: 'finish',
    wanted: 'a sign-in',
  });
}

const valued = {
  '--gateway': 'gateway',
  '--via': 'via',
  '--ca-file': 'caFile',
  '--token-file': 'tokenFile',
} as const;

/** Reads the arguments by hand: this is on the way of every ssh. Throws `USAGE`. */
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
    if (!Object.hasOwn(valued, name)) throw usage(`connect knows no option ${name}`);
    const value = attached ?? args[++at];
    if (value === undefined || value === '') throw usage(`${name} needs a value`);
    flags[valued[name as keyof typeof valued]] = value;
  }
  const [host, port, ...rest] = words;
  if (host === undefined) throw usage('connect needs a host');
  if (rest.length > 0) throw usage('connect takes a host and a port, nothing more');
  return { flags, host, ...(port === undefined ? {} : { port }) };
}

function splitFlag(word: string): [name: string, value: string | undefined] {
  const equals = word.indexOf('=');
  return equals === -1 ? [word, undefined] : [word.slice(0, equals), word.slice(equals + 1)];
}

/** ssh gives IPv6 addresses without brackets; by hand `box:2222` is handy. Throws `TARGET_INVALID`. */
function parseAsked({ host, port }: ConnectArguments): Target {
  if (port !== undefined) return parseTargetParts(host, port);
  return /^[^[\]]*:[^[\]]*:/.test(host) ? parseTargetParts(host, '22') : parseTarget(host);
}

function usage(what: string): Failure {
  return new Failure('USAGE', what, { hint: 'postern connect --help' });
}
