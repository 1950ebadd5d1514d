import { createHash, createPublicKey, verify } from 'node:crypto';
import type { JsonWebKeyInput, KeyObject } from 'node:crypto';
import type { Proof } from '../authenticator.ts';
import { InvalidTokenError } from '../jwt/claims.ts';
import { decodeCompactJws } from '../jwt/compact-jws.ts';
import { ownProperty } from '../jwt/strict-json.ts';
import type { JsonObject } from '../jwt/strict-json.ts';
import type { proofAlgorithms } from './algorithms.ts';
import type { ReplayMemory } from './replay-cache.ts';

/** What a proof has to be about. */
export interface Bound {
  readonly token: string;
  /** `cnf.jkt` of the token. */
  readonly keyThumbprint: string;
}

/** Checks that who shows a token also holds the key it is bound to (RFC 9449). */
export interface ProofChecker {
  /** Rejects with `InvalidTokenError`, of proofs that are the same for all but the first; with `STORE_UNAVAILABLE` when that cannot be told. */
  check(proof: Proof, bound: Bound): Promise<void>;
}

export interface ProofOptions {
  /** Scheme, host and port that callers use: those of `publicUrl`. */
  readonly origin: string;
  readonly replays: ReplayMemory;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** How far the clock of a caller may be off. */
const windowMs = 60_000;
const maxProofBytes = 4096;
const maxIdLength = 128;

/** A proof from a clock that is ahead by the whole window could come again for twice that time. */
const keepMs = 2 * windowMs + 1000;

/** A checker that remembers proofs for as long as they could come again. */
export function proofChecker({ origin, replays, now = Date.now }: ProofOptions): ProofChecker {
  return {
    async check({ jwt, method, path }, { token, keyThumbprint }) {
      const text = jwt.reveal();
      if (text.length > maxProofBytes) throw refusal('too long');
      const { header, payload } = readProof(text);
      checkSignature(text, header, keyThumbprint);
      if (ownProperty(payload, 'htm') !== method) throw refusal('htm: another method');
      if (!isAbout(ownProperty(payload, 'htu'), origin, path)) throw refusal('htu: another place');
      if (ownProperty(payload, 'ath') !== sha256(token)) throw refusal('ath: another token');
      const issued = ownProperty(payload, 'iat');
      if (typeof issued !== 'number' || !(Math.abs(issued * 1000 - now()) <= windowMs))
        throw refusal('iat: not now');
      const id = ownProperty(payload, 'jti');
      if (typeof id !== 'string' || id.length === 0 || id.length > maxIdLength)
        throw refusal('jti: missing or too long');
      // Last, so that a proof which is refused for anything else uses nothing up.
      if (!(await replays.isNew(JSON.stringify([keyThumbprint, id]), now() + keepMs)))
        throw refusal('jti: seen before');
    },
  };
}

function refusal(why: string, cause?: unknown): InvalidTokenError {
  return new InvalidTokenError(`DPoP: ${why}`, { cause });
}

function readProof(text: string): { readonly header: JsonObject; readonly payload: JsonObject } {
  try {
    return decodeCompactJws(text);
  } catch (cause) {
    throw refusal('it cannot be read', cause);
  }
}

/** The key comes with the proof; it counts because the token, whose signature was checked, names its thumbprint. */
function checkSignature(text: string, header: JsonObject, keyThumbprint: string): void {
  if (ownProperty(header, 'typ') !== 'dpop+jwt') throw refusal('typ: a token of another kind');
  for (const name of ['crit', 'b64', 'enc', 'zip']) {
    if (ownProperty(header, name) !== undefined) throw refusal(`${name}: not supported`);
  }
  const key = readKey(ownProperty(header, 'jwk'), ownProperty(header, 'alg'));
  if (key.thumbprint !== keyThumbprint) throw refusal('jwk: not the key the token is bound to');
  const at = text.lastIndexOf('.');
  const signed = Buffer.from(text.slice(0, at));
  const signature = Buffer.from(text.slice(at + 1), 'base64url');
  const isRight =
    key.alg === 'EdDSA'
      ? verify(null, signed, key.key, signature)
      : verify('sha256', signed, { key: key.key, dsaEncoding: 'ieee-p1363' }, signature);
  if (!isRight) throw refusal('the signature is wrong');
}

interface ProofKey {
  readonly alg: (typeof proofAlgorithms)[number];
  readonly key: KeyObject;
  readonly thumbprint: string;
}

/** Reads a public key and its thumbprint (RFC 7638). Throws `InvalidTokenError`. */
function readKey(jwk: unknown, alg: unknown): ProofKey {
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) throw refusal('jwk: missing');
  const read = (name: string): unknown => ownProperty(jwk as JsonObject, name);
  if (read('d') !== undefined) throw refusal('jwk: a private key');
  const { kty, crv, x, y } = { kty: read('kty'), crv: read('crv'), x: read('x'), y: read('y') };
  if (alg === 'ES256' && kty === 'EC' && crv === 'P-256' && isCoordinate(x) && isCoordinate(y))
    return importKey({ alg, jwk: { crv, kty, x, y } });
  if (alg === 'EdDSA' && kty === 'OKP' && crv === 'Ed25519' && isCoordinate(x))
    return importKey({ alg, jwk: { crv, kty, x } });
  throw refusal('jwk: not a key of ES256 or EdDSA');
}

/** `jwk` has the required members only, in the order of their names: as RFC 7638 §3.2 hashes them. */
function importKey({ alg, jwk }: { alg: ProofKey['alg']; jwk: JsonWebKeyInput['key'] }): ProofKey {
  try {
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    return { alg, key, thumbprint: sha256(JSON.stringify(jwk)) };
  } catch (cause) {
    throw refusal('jwk: not a key', cause);
  }
}

/** 32 bytes in base64url, in the one canonical way. */
function isCoordinate(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/.test(value);
}

/** RFC 9449 §4.3: scheme, host, port and path, without query and fragment. The path has to be the very one of the request. */
function isAbout(htu: unknown, origin: string, path: string): boolean {
  if (typeof htu !== 'string' || !URL.canParse(htu)) return false;
  const url = new URL(htu);
  return url.origin === origin && url.username === '' && url.password === '' && url.pathname === path;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
