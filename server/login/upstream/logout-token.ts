import { decodeCompactJws } from '../../auth/jwt/compact-jws.ts';
import { verifySignature } from '../../auth/jwt/verify-jwt.ts';
import { ownProperty } from '../../auth/jwt/strict-json.ts';
import type { JsonObject } from '../../auth/jwt/strict-json.ts';
import type { KeySource } from '../../auth/jwt/jwks-cache.ts';
import type { SignatureAlgorithm } from '../../config/config.ts';

/** A logout token is not accepted; the message is for the log. */
export class LogoutRefusal extends Error {
  override readonly name = 'LogoutRefusal';
}

/** The sessions that a provider has ended: one, or all of a person. */
export interface Logout {
  readonly tokenId: string;
  readonly subject?: string;
  readonly session?: string;
}

export interface LogoutPolicy {
  readonly issuer: string;
  /** The gateway's client id at the provider. */
  readonly clientId: string;
  readonly keys: KeySource;
  /** The wall clock, in milliseconds since 1970. */
  readonly now: number;
}

const algorithms: readonly SignatureAlgorithm[] = [
  'ES256',
  'EdDSA',
  'RS256',
  'PS256',
  'ES384',
  'RS384',
  'PS384',
  'ES512',
  'RS512',
  'PS512',
];
const event = 'http://schemas.openid.net/event/backchannel-logout';
const skewMs = 30_000;
/** The maximum age of a token without `exp`; also how long its `jti` has to be remembered. */
export const logoutTokenMs = 180_000;

/** Reads a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.6). Rejects with `LogoutRefusal` unless every check passes. */
export async function readLogoutToken(text: string, policy: LogoutPolicy): Promise<Logout> {
  const { header, payload } = compactOf(text);
  const typ = ownProperty(header, 'typ');
  // Any other kind of token of the same issuer means something else. Many providers still write JWT or nothing.
  if (
    typ !== undefined &&
    !(isText(typ) && ['logout+jwt', 'jwt', 'application/logout+jwt'].includes(typ.toLowerCase()))
  )
    throw new LogoutRefusal('typ: another kind of token');
  if (ownProperty(header, 'crit') !== undefined) throw new LogoutRefusal('crit: not supported');
  if (ownProperty(payload, 'iss') !== policy.issuer) throw new LogoutRefusal('iss: another issuer');
  await checkSignature(text, header, policy.keys);
  checkClaims(payload, policy);
  return logoutOf(payload);
}

function compactOf(text: string): ReturnType<typeof decodeCompactJws> {
  try {
    return decodeCompactJws(text);
  } catch (cause) {
    throw new LogoutRefusal('not a signed token', { cause });
  }
}

async function checkSignature(text: string, header: JsonObject, keys: KeySource): Promise<void> {
  const alg = algorithms.find((each) => each === ownProperty(header, 'alg'));
  const kid = ownProperty(header, 'kid');
  if (!alg || (kid !== undefined && (typeof kid !== 'string' || kid.length > 128)))
    throw new LogoutRefusal('alg or kid: not one of ours');
  const candidates = await keys.find({ alg, ...(typeof kid === 'string' && { kid }) });
  try {
    await verifySignature(text, candidates, alg);
  } catch (cause) {
    throw new LogoutRefusal('signature: not by a key of the provider', { cause });
  }
}

function checkClaims(payload: JsonObject, { clientId, now }: LogoutPolicy): void {
  const aud = ownProperty(payload, 'aud');
  if (aud !== clientId && !(Array.isArray(aud) && aud.includes(clientId)))
    throw new LogoutRefusal('aud: not us');
  // An ID token has a nonce and must not end anything (section 2.4).
  if (ownProperty(payload, 'nonce') !== undefined) throw new LogoutRefusal('nonce: this is another token');
  const [iat, exp] = [ownProperty(payload, 'iat'), ownProperty(payload, 'exp')];
  if (typeof iat !== 'number' || iat * 1000 - skewMs > now || iat * 1000 + logoutTokenMs < now)
    throw new LogoutRefusal('iat: missing, old or in the future');
  if (exp !== undefined && (typeof exp !== 'number' || exp * 1000 + skewMs <= now))
    throw new LogoutRefusal('exp: expired');
  const events = ownProperty(payload, 'events');
  const logout = isObject(events) && Object.hasOwn(events, event) ? events[event] : undefined;
  if (!isObject(logout)) throw new LogoutRefusal('events: not a logout');
}

function logoutOf(payload: JsonObject): Logout {
  const [jti, sub, sid] = [
    ownProperty(payload, 'jti'),
    ownProperty(payload, 'sub'),
    ownProperty(payload, 'sid'),
  ];
  if (!isText(jti)) throw new LogoutRefusal('jti: missing');
  for (const each of [sub, sid])
    if (each !== undefined && !isText(each)) throw new LogoutRefusal('sub or sid: not text');
  if (sub === undefined && sid === undefined) throw new LogoutRefusal('neither sub nor sid');
  return { tokenId: jti, ...(isText(sub) && { subject: sub }), ...(isText(sid) && { session: sid }) };
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= 256;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
