import { printableJson } from '../../base/printable-json.ts';
import { definedOnly } from '../../base/defined-only.ts';
import { parseArgs } from '../../base/parse-args.ts';
import { requestAccess } from '../connect/gateway-api.ts';
import type { ListedSession } from '../connect/gateway-api.ts';
import { readLastError } from '../errors/report.ts';
import type { LastError } from '../errors/report.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { printable } from '../os/terminal.ts';
import { tunnelsHere } from '../resume/tunnel-status-file.ts';
import type { LocalTunnel } from '../resume/tunnel-status-file.ts';
import type { ClientSettings } from '../settings.ts';
import { readClaims } from '../oauth/unverified-claims.ts';
import { readSignIn, signInDirectory } from '../credentials/session-store.ts';
import { signInPath } from '../credentials/session-path.ts';
import { expiryError, givenToken } from '../credentials/static-token.ts';
import type { FoundToken } from '../credentials/static-token.ts';
import { gatewayOptions, settingsWith } from './options.ts';

/** The output of `postern status --json`; `version` counts changes of this shape. */
export interface Status {
  readonly version: 1;
  readonly gateway: string;
  readonly signedIn: boolean;
  /** Whether the gateway has confirmed it, or only the token says so. */
  readonly confirmed: boolean;
  readonly subject?: string;
  readonly issuer?: string;
  readonly groups?: readonly string[];
  /** When the token expires; that of a sign-in is renewed before. */
  readonly expiresAt?: string;
  /** When the gateway ends the user's sign-in, or a token that belongs to none. */
  readonly until?: string;
  /** Where the token came from: a file, or the name of a variable. */
  readonly tokenFrom?: string;
  /** The user's open tunnels, from any machine. */
  readonly sessions?: readonly ListedSession[];
  /** The user's tunnels on this machine, through any gateway. */
  readonly tunnels?: readonly LocalTunnel[];
  /** Why there is no usable token, or why the gateway did not answer. */
  readonly problem?: { readonly code: string; readonly message: string };
  readonly lastError?: LastError;
}

/** Runs `postern status`. Exits with 77 when there is no usable token, else with the code of the failed request to the gateway. */
export async function status(
  args: readonly string[],
  env: Environment,
  print: (text: string) => void,
): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: { ...gatewayOptions, offline: { type: 'boolean' } },
  });
  const settings = settingsWith(values, env);
  const lastError = readLastError(settings.paths.state);
  const { facts, exit, isSignIn } = await readStatus(settings, values.offline === true);
  const found: Status = {
    version: 1,
    gateway: settings.gateway.href,
    ...facts,
    tunnels: tunnelsHere(settings.paths.state),
    // A failed sign-in that has succeeded since is over.
    ...(lastError === undefined || (facts.confirmed && facts.signedIn && lastError.layer === 'sign-in')
      ? {}
      : { lastError }),
  };
  print(values.json ? `${printableJson(found, 2)}\n` : describe(found, isSignIn));
  return exit;
}

type StatusFacts = Omit<Status, 'version' | 'gateway' | 'tunnels' | 'lastError'>;

async function readStatus(
  settings: ClientSettings,
  isOffline: boolean,
): Promise<{ facts: StatusFacts; exit: number; isSignIn: boolean }> {
  const { isSignIn, ...local } = readLocal(settings, isOffline);
  if (isOffline || !local.signedIn) return { facts: local, exit: local.signedIn ? 0 : 77, isSignIn };
  try {
    const { subject, groups, until: tokenEnd, signedInUntil, sessions } = await requestAccess(settings);
    // A renewal during the request may have changed the local state.
    const { isSignIn: isStillSignIn, ...rest } = readLocal(settings, isOffline);
    // The token of a sign-in lasts for minutes: its end would tell nothing.
    const until = signedInUntil ?? (isStillSignIn ? undefined : tokenEnd);
    const facts = { ...rest, groups, sessions, ...definedOnly({ subject, until }), confirmed: true };
    return { facts, exit: 0, isSignIn };
  } catch (error) {
    const { code, message, facts } = toFailure(error);
    const problem = { code, message };
    const isRefused = facts.layer === 'sign-in' && !facts.retry;
    const known = isRefused ? { signedIn: false, confirmed: true } : local;
    return { facts: { ...known, problem }, exit: facts.exit, isSignIn };
  }
}

/** The status by the local files, and whether it is that of a sign-in. Only without the gateway the clock here counts. */
function readLocal(
  { token: sources, gateway, paths }: ClientSettings,
  isOffline: boolean,
): StatusFacts & { isSignIn: boolean } {
  try {
    const given = givenToken(sources);
    const expired = isOffline && given ? expiryError(given, new Date()) : undefined;
    if (expired !== undefined) throw expired;
    const found = given ?? kept(paths.state, gateway);
    const { subject, issuer, expiresAt } = readClaims(found.token) ?? {};
    return {
      isSignIn: given === undefined,
      signedIn: true,
      confirmed: false,
      ...(subject === undefined ? {} : { subject }),
      ...(issuer === undefined ? {} : { issuer }),
      ...(expiresAt === undefined ? {} : { expiresAt: expiresAt.toISOString() }),
      tokenFrom: found.from,
    };
  } catch (error) {
    if (!(error instanceof ClientError) || error.facts.layer !== 'sign-in') throw error;
    const problem = { code: error.code, message: error.message };
    return { isSignIn: false, signedIn: false, confirmed: false, problem };
  }
}

function kept(state: string, gateway: URL): FoundToken {
  const signIn = readSignIn(state, gateway);
  if (signIn === undefined)
    throw new ClientError('TOKEN_MISSING', `you are not signed in to ${gateway.href}`);
  return { token: signIn.accessToken, from: signInPath(signInDirectory(state, gateway)) };
}

/** The status as lines for people. The end of a sign-in's token is left out: it is renewed before that. */
export function describe(status: Status, isSignIn = false): string {
  const { subject, issuer, groups = [], sessions = [], expiresAt, until, problem, lastError } = status;
  const unconfirmed = status.signedIn && problem;
  const lines: [label: string, value: string | undefined][] = [
    ['gateway', status.gateway],
    ['you', status.signedIn ? (subject ?? 'unknown') : notSignedIn(problem)],
    ['groups', groups.length === 0 ? undefined : groups.join(', ')],
    ['issuer', issuer],
    ['until', status.signedIn ? untilText(until ?? (isSignIn ? undefined : expiresAt)) : undefined],
    ['token', status.tokenFrom],
    ['not checked', unconfirmed ? `${unconfirmed.message} (${unconfirmed.code})` : undefined],
    ...sessions.map(({ target, since, id, state, detachedSince }): [string, string] => [
      state === 'detached' ? 'waiting' : 'open',
      [target, since && `since ${since}`, id, state === 'detached' && waitingText(detachedSince)]
        .filter((part) => part)
        .join(', '),
    ]),
    ...(status.tunnels ?? []).map((tunnel): [string, string] => [
      'from here',
      tunnelLine(tunnel, status.gateway),
    ]),
    ['last error', lastError && lastErrorLine(lastError)],
    // What to do now comes before what to do about something that is past.
    ['hint', status.problem?.code === 'TOKEN_MISSING' ? 'postern login' : lastError?.hint],
  ];
  return lines
    .flatMap(([label, value]) => (value === undefined ? [] : [`${label.padEnd(12)}${printable(value)}\n`]))
    .join('');
}

function two(number: number): string {
  return String(number).padStart(2, '0');
}

/** A time by the clock on the wall, and how far it is off. */
function untilText(time: string | undefined): string | undefined {
  if (time === undefined) return undefined;
  const at = new Date(time);
  const minutes = Math.floor((at.getTime() - Date.now()) / 60_000);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60)];
  const left =
    minutes < 0
      ? 'over'
      : days > 1
        ? `${days} days`
        : hours > 0
          ? `${hours} h ${minutes % 60} min`
          : `${minutes} min`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())} (${left})`;
}

/** What the gateway knows of a tunnel that has lost its connection. */
function waitingText(since: string | undefined): string {
  return `waits for its client${since === undefined ? '' : ` since ${since}`}`;
}

function notSignedIn(problem: Status['problem']): string {
  if (problem === undefined) return 'not signed in';
  const prefix = problem.code === 'TOKEN_MISSING' ? '' : 'not signed in: ';
  return `${prefix}${problem.message} (${problem.code})`;
}

function tunnelLine(tunnel: LocalTunnel, gateway: string): string {
  const { target, state, since, changed, resumable, resumes } = tunnel;
  const through = tunnel.gateway === gateway ? '' : ` through ${tunnel.gateway}`;
  const how = state === 'connected' ? state : `${state} since ${changed}`;
  const often = resumes === 0 ? '' : `, resumed ${resumes === 1 ? 'once' : `${resumes} times`}`;
  const fate = resumable ? '' : ', cannot be resumed: it ends with its connection';
  return `${target}${through}, ${how}, open since ${since}${often}${fate}`;
}

function lastErrorLine({ time, target, message, code, requestId }: LastError): string {
  const about = target === undefined ? '' : `${target}: `;
  const request = requestId === undefined ? '' : `, request ${requestId}`;
  return `${time} ${about}${message}${request} (${code})`;
}
