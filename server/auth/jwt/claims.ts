import type { ClaimCondition } from '../../config/config.ts';
import { parsePattern } from '../../../protocol/target-pattern.ts';
import type { Principal } from '../authenticator.ts';
import { ownProperty } from './strict-json.ts';
import type { JsonObject } from './strict-json.ts';

/** Why a token was refused: for the log and the audit, never for the caller. It contains nothing of the token's text. */
export class InvalidTokenError extends Error {
  override readonly name = 'InvalidTokenError';
}

/** What the gateway demands of the claims of an issuer's tokens, beyond the registered ones. */
export interface ClaimsPolicy {
  readonly groupsClaim: string;
  /** The longest time from `iat` to `exp`, in milliseconds. */
  readonly maxLifetimeMs: number;
  /** Its tokens have `auth_time`, the time at which the person signed in; revocations compare with that instead of `iat`. */
  readonly hasAuthTime?: boolean;
  /** Conditions on further claims; all must hold. */
  readonly claims?: readonly ClaimCondition[];
}

/** The part of a principal that comes from the claims about the subject. */
export type Identity = Pick<Principal, 'subject' | 'groups' | 'targets' | 'tokenId' | 'signInId'>;

/** When the token was issued, or its subject signed in, and when it expires. */
export type Lifetime = Pick<Principal, 'issuedAt' | 'expiresAt'>;

const maxTextLength = 256;
const maxGroups = 1000;
const maxTargets = 256;

/**
 * Checks what jose leaves open of the registered claims, and the issuer's own conditions: `aud` holds text only, a `Date` can
 * hold each time, `exp` is after `iat` and within `maxLifetimeMs` of it. Throws `InvalidTokenError`.
 */
export function readLifetime(claims: JsonObject, policy: ClaimsPolicy): Lifetime {
  checkAudienceType(ownProperty(claims, 'aud'));
  const issuedMs = readTime(claims, 'iat');
  const expiresMs = readTime(claims, 'exp');
  if (ownProperty(claims, 'nbf') !== undefined) readTime(claims, 'nbf');
  if (expiresMs <= issuedMs) throw new InvalidTokenError('exp: not after iat');
  if (expiresMs - issuedMs > policy.maxLifetimeMs)
    throw new InvalidTokenError('exp: a longer lifetime than the issuer is allowed');
  for (const condition of policy.claims ?? []) checkCondition(claims, condition);
  const startMs = policy.hasAuthTime ? readTime(claims, 'auth_time') : issuedMs;
  return { issuedAt: new Date(startMs), expiresAt: new Date(expiresMs) };
}

/** The thumbprint of the key that the token is bound to (RFC 9449 §6.1); undefined: it is not bound. Throws `InvalidTokenError` for a binding of any other kind. */
export function readConfirmationThumbprint(claims: JsonObject): string | undefined {
  const confirmation = ownProperty(claims, 'cnf');
  if (confirmation === undefined) return undefined;
  if (typeof confirmation !== 'object' || confirmation === null || Array.isArray(confirmation))
    throw new InvalidTokenError('cnf: not an object');
  const thumbprint = ownProperty(confirmation as JsonObject, 'jkt');
  if (
    Object.keys(confirmation).length !== 1 ||
    typeof thumbprint !== 'string' ||
    !/^[A-Za-z0-9_-]{43}$/.test(thumbprint)
  ) {
    throw new InvalidTokenError('cnf: a binding of an unknown kind');
  }
  return thumbprint;
}

/**
 * Reads the claims about the subject. Throws `InvalidTokenError` for any claim of a wrong form: to skip it could widen what
 * the token allows.
 */
export function readIdentity(claims: JsonObject, groupsClaim: string): Identity {
  const tokenId = ownProperty(claims, 'jti');
  const signInId = ownProperty(claims, 'sid');
  const targets = readTargets(ownProperty(claims, 'targets'));
  return {
    subject: readText(ownProperty(claims, 'sub'), 'sub'),
    groups: readGroups(ownProperty(claims, groupsClaim)),
    ...(targets && { targets }),
    ...(tokenId !== undefined && { tokenId: readText(tokenId, 'jti') }),
    ...(signInId !== undefined && { signInId: readText(signInId, 'sid') }),
  };
}

function checkAudienceType(value: unknown): void {
  const audiences = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(audiences) || !audiences.every((each) => typeof each === 'string'))
    throw new InvalidTokenError('aud: missing or not text');
}

function readTime(claims: JsonObject, name: string): number {
  const seconds = ownProperty(claims, name);
  if (typeof seconds !== 'number' || !(Math.abs(seconds) <= maxSeconds)) {
    throw new InvalidTokenError(`${name}: missing or not a time`);
  }
  return seconds * 1000;
}

// The last moment that a Date can hold (ECMA-262 §21.4.1.1).
const maxSeconds = 8.64e12;

function checkCondition(claims: JsonObject, { claim, values }: ClaimCondition): void {
  const value = ownProperty(claims, claim);
  const actual: readonly unknown[] = Array.isArray(value) ? value : [value];
  // `includes` compares without conversion: 1 is not "1".
  if (!actual.some((each) => (values as readonly unknown[]).includes(each)))
    throw new InvalidTokenError(`${claim}: not a value that the issuer's entry allows`);
}

/** Text that can be logged and compared: not empty, no control or formatting characters. */
function readText(value: unknown, claim: string): string {
  if (typeof value !== 'string' || value.length === 0 || value.length > maxTextLength) {
    throw new InvalidTokenError(`${claim}: missing, empty, too long or not text`);
  }
  if (/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(value))
    throw new InvalidTokenError(`${claim}: unprintable characters`);
  return value;
}

function readGroups(value: unknown): ReadonlySet<string> {
  if (value === undefined) return new Set();
  const groups: unknown = typeof value === 'string' ? [value] : value;
  if (!Array.isArray(groups) || groups.length > maxGroups)
    throw new InvalidTokenError('groups: not a list, or too long');
  return new Set(groups.map((group) => readText(group, 'groups')));
}

function readTargets(value: unknown): readonly string[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length > maxTargets)
    throw new InvalidTokenError('targets: not a list, or too long');
  return value.map(readPattern);
}

function readPattern(value: unknown): string {
  try {
    if (typeof value !== 'string') throw new TypeError('not text');
    parsePattern(value);
    return value;
  } catch (cause) {
    throw new InvalidTokenError('targets: not target patterns', { cause });
  }
}
