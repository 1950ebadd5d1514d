import type { ClaimCondition } from '../../config/config.ts';
import { parsePattern } from '../../../protocol/target-pattern.ts';
import type { Principal } from '../authenticator.ts';
import { ownProperty } from './strict-json.ts';
import type { JsonObject } from './strict-json.ts';

/** Why a token was refused: for the log and the audit, never for the caller. It holds nothing of the token's text. */
export class InvalidTokenError extends Error {
  override readonly name = 'InvalidTokenError';
}

/** What the claims of an issuer's token have to be. */
export interface ClaimsPolicy {
  readonly audience: string;
  readonly groupsClaim: string;
  readonly maxLifetimeMs: number;
  /** Its tokens say in `auth_time` when the person showed who they are, and that is what revocations go by. */
  readonly saysSignInTime?: boolean;
  /** Conditions on further claims; all must hold. */
  readonly claims?: readonly ClaimCondition[];
}

/** Who the claims are about. */
export type Identity = Pick<Principal, 'subject' | 'groups' | 'targets' | 'tokenId' | 'signInId'>;

/** When it was given, and until when it is good. */
export type Lifetime = Pick<Principal, 'issuedAt' | 'expiresAt'>;

const maxTextLength = 256;
const maxGroups = 1000;
const maxTargets = 256;

/**
 * Checks what jose leaves open of verified claims: text in all of `aud`, times that a `Date` can hold, a lifetime within the
 * policy, and the further conditions. Throws `InvalidTokenError`.
 */
export function readLifetime(claims: JsonObject, policy: ClaimsPolicy): Lifetime {
  checkAudiences(ownProperty(claims, 'aud'));
  const issuedMs = readTime(claims, 'iat');
  const expiresMs = readTime(claims, 'exp');
  if (ownProperty(claims, 'nbf') !== undefined) readTime(claims, 'nbf');
  if (expiresMs <= issuedMs) throw new InvalidTokenError('exp: not after iat');
  if (expiresMs - issuedMs > policy.maxLifetimeMs)
    throw new InvalidTokenError('exp: longer than the issuer may');
  for (const condition of policy.claims ?? []) checkCondition(claims, condition);
  const givenMs = policy.saysSignInTime ? readTime(claims, 'auth_time') : issuedMs;
  return { issuedAt: new Date(givenMs), expiresAt: new Date(expiresMs) };
}

function checkCondition(claims: JsonObject, { claim, values }: ClaimCondition): void {
  const found = ownProperty(claims, claim);
  const said: readonly unknown[] = Array.isArray(found) ? found : [found];
  // `includes` compares without conversion: 1 is not "1".
  if (!said.some((each) => (values as readonly unknown[]).includes(each)))
    throw new InvalidTokenError(`${claim}: not as the issuer's entry says`);
}

/** The thumbprint of the key that the token is bound to (RFC 9449 §6.1), if it is. Throws `InvalidTokenError` for a binding of any other kind. */
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
    throw new InvalidTokenError('cnf: bound in a way that is not known here');
  }
  return thumbprint;
}

/** Reads who the claims are about. Throws `InvalidTokenError` for any claim of a wrong form, since to skip it could widen. */
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

function checkAudiences(value: unknown): void {
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
