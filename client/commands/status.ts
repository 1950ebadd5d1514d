import { parseArgs } from 'node:util';
import { readLastError } from '../explain.ts';
import type { LastError } from '../explain.ts';
import { Failure } from '../failure.ts';
import type { Environment } from '../places.ts';
import { printable } from '../printable.ts';
import { readSettings } from '../settings.ts';
import { readClaims } from '../token/claims.ts';
import { findToken } from '../token/token.ts';

/** What `postern status --json` prints; `version` counts changes of this shape. */
export interface Status {
  readonly version: 1;
  readonly gateway: string;
  readonly signedIn: boolean;
  readonly subject?: string;
  readonly issuer?: string;
  readonly expiresAt?: string;
  /** Where the token came from: a file, or the name of a variable. */
  readonly tokenFrom?: string;
  /** Why there is no usable token. */
  readonly problem?: { readonly code: string; readonly message: string };
  readonly lastError?: LastError;
}

/** Runs `postern status`. Exits 77 when there is no token that could work. */
export function status(args: readonly string[], env: Environment, print: (text: string) => void): number {
  const { values } = parseArgs({
    args: [...args],
    options: { json: { type: 'boolean' }, gateway: { type: 'string' }, 'token-file': { type: 'string' } },
  });
  const now = new Date();
  const { gateway, 'token-file': tokenFile } = values;
  const settings = readSettings(
    { ...(gateway === undefined ? {} : { gateway }), ...(tokenFile === undefined ? {} : { tokenFile }) },
    env,
  );
  const lastError = readLastError(settings.places.state);
  const found: Status = {
    version: 1,
    gateway: settings.gateway.href,
    ...signIn(() => findToken(settings.token, settings.gateway, now)),
    ...(lastError === undefined ? {} : { lastError }),
  };
  print(values.json ? `${JSON.stringify(found, null, 2)}\n` : describe(found));
  return found.signedIn ? 0 : 77;
}

type SignIn = Pick<Status, 'signedIn' | 'subject' | 'issuer' | 'expiresAt' | 'tokenFrom' | 'problem'>;

function signIn(find: () => ReturnType<typeof findToken>): SignIn {
  try {
    const { token, from } = find();
    const { subject, issuer, expiresAt } = readClaims(token) ?? {};
    return {
      signedIn: true,
      ...(subject === undefined ? {} : { subject }),
      ...(issuer === undefined ? {} : { issuer }),
      ...(expiresAt === undefined ? {} : { expiresAt: expiresAt.toISOString() }),
      tokenFrom: from,
    };
  } catch (error) {
    if (!(error instanceof Failure) || error.facts.layer !== 'sign-in') throw error;
    return { signedIn: false, problem: { code: error.code, message: error.message } };
  }
}

/** The status as lines for people. */
export function describe(status: Status): string {
  const { subject, issuer, expiresAt, tokenFrom, problem, lastError } = status;
  const lines: [label: string, value: string | undefined][] = [
    ['gateway', status.gateway],
    [
      'you',
      problem ? `not signed in: ${problem.message} (${problem.code})` : (subject ?? 'the token does not say'),
    ],
    ['issuer', issuer],
    ['until', problem ? undefined : (expiresAt ?? 'the token does not say')],
    ['token', tokenFrom],
    ['last error', lastError && lastErrorLine(lastError)],
    ['hint', lastError?.hint],
  ];
  return lines
    .flatMap(([label, value]) => (value === undefined ? [] : [`${label.padEnd(12)}${printable(value)}\n`]))
    .join('');
}

function lastErrorLine({ time, target, message, code, requestId }: LastError): string {
  const about = target === undefined ? '' : `${target}: `;
  const request = requestId === undefined ? '' : `, request ${requestId}`;
  return `${time} ${about}${message}${request} (${code})`;
}
