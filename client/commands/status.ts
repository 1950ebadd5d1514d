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
import { givenToken } from '../credentials/static-token.ts';
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
  /** When the gateway ends the user's sign-in. */
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
  const { facts, exit } = await readStatus(settings, values.offline === true);
  const found: Status = {
    version: 1,
    gateway: settings.gateway.href,
    ...facts,
    tunnels: tunnelsHere(settings.paths.state),
    ...(lastError === undefined ? {} : { lastError }),
  };
  print(values.json ? `${JSON.stringify(found, null, 2)}\n` : describe(found));
  return exit;
}

type StatusFacts = Omit<Status, 'version' | 'gateway' | 'tunnels' | 'lastError'>;

async function readStatus(
  settings: ClientSettings,
  isOffline: boolean,
): Promise<{ facts: StatusFacts; exit: number }> {
  const local = readLocal(settings);
  if (isOffline || !local.signedIn) return { facts: local, exit: local.signedIn ? 0 : 77 };
  try {
    const { subject, groups, until, sessions } = await requestAccess(settings);
    const answered = {
      groups,
      sessions,
      ...(subject === undefined ? {} : { subject }),
      ...(until === undefined ? {} : { until }),
    };
    // A renewal during the request may have changed the local state.
    return { facts: { ...readLocal(settings), ...answered, confirmed: true }, exit: 0 };
  } catch (error) {
    const { code, message, facts } = toFailure(error);
    const problem = { code, message };
    if (facts.layer !== 'sign-in' || facts.retry) return { facts: { ...local, problem }, exit: facts.exit };
    return { facts: { signedIn: false, confirmed: true, problem }, exit: facts.exit };
  }
}

/** The status by the local files. */
function readLocal({ token: sources, gateway, paths }: ClientSettings): StatusFacts {
  try {
    const found = givenToken(sources, new Date()) ?? kept(paths.state, gateway);
    const { subject, issuer, expiresAt } = readClaims(found.token) ?? {};
    return {
      signedIn: true,
      confirmed: false,
      ...(subject === undefined ? {} : { subject }),
      ...(issuer === undefined ? {} : { issuer }),
      ...(expiresAt === undefined ? {} : { expiresAt: expiresAt.toISOString() }),
      tokenFrom: found.from,
    };
  } catch (error) {
    if (!(error instanceof ClientError) || error.facts.layer !== 'sign-in') throw error;
    return { signedIn: false, confirmed: false, problem: { code: error.code, message: error.message } };
  }
}

function kept(state: string, gateway: URL): FoundToken {
  const signIn = readSignIn(state, gateway);
  if (signIn === undefined)
    throw new ClientError('TOKEN_MISSING', `you are not signed in to ${gateway.href}`);
  return { token: signIn.accessToken, from: signInPath(signInDirectory(state, gateway)) };
}

/** The status as lines for people. */
export function describe(status: Status): string {
  const { subject, issuer, groups = [], sessions = [], expiresAt, until, problem, lastError } = status;
  const unconfirmed = status.signedIn && problem;
  const lines: [label: string, value: string | undefined][] = [
    ['gateway', status.gateway],
    ['you', status.signedIn ? (subject ?? 'unknown') : notSignedIn(problem)],
    ['groups', groups.length === 0 ? undefined : groups.join(', ')],
    ['issuer', issuer],
    ['until', status.signedIn ? (until ?? expiresAt ?? 'unknown') : undefined],
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
    ['hint', lastError?.hint],
  ];
  return lines
    .flatMap(([label, value]) => (value === undefined ? [] : [`${label.padEnd(12)}${printable(value)}\n`]))
    .join('');
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
