import { createHash } from 'node:crypto';
import { calculateJwkThumbprint, compactVerify, importJWK } from 'jose';
import type { CryptoKey, JWK } from 'jose';
import type { Proof } from '../authenticator.ts';
import { InvalidTokenError } from '../jwt/claims.ts';
import { decodeCompactJws, findUnsupportedParameter } from '../jwt/compact-jws.ts';
import { ownProperty } from '../jwt/strict-json.ts';
import type { JsonObject } from '../jwt/strict-json.ts';
import { findWeakness } from '../jwt/weak-keys.ts';
import type { ReplayMemory } from './replay-cache.ts';

/** The algorithms that proofs can be signed with: `algs` of the challenge (RFC 9449 §7.1). */
export const proofAlgorithms = ['ES256', 'EdDSA'] as const;

/** The token that a proof must be about, with the key that the token is bound to. */
export interface TokenBinding {
  readonly token: string;
  /** `cnf.jkt` of the token. */
  readonly keyThumbprint: string;
}

/** Checks that the client that presents a token also holds the key that the token is bound to (RFC 9449). */
export interface ProofChecker {
  /**
   * Rejects with `InvalidTokenError` for a proof that is wrong, and for any but the first use of the same proof; with
   * `STORE_UNAVAILABLE` when it cannot be determined whether the use is the first.
   */
  check(proof: Proof, bound: TokenBinding): Promise<void>;
}

export interface ProofOptions {
  /** Scheme, host and port that clients use: those of `publicUrl`. */
  readonly origin: string;
  readonly replays: ReplayMemory;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** How far a client's clock can be off. */
const windowMs = 60_000;
const maxProofBytes = 4096;
const maxIdLength = 128;

/** A proof from a clock that is ahead by the whole window could be used again for twice that time. */
const keepMs = 2 * windowMs + 1000;

/** A checker that remembers proofs for as long as they could be used again. */
export function proofChecker({ origin, replays, now = Date.now }: ProofOptions): ProofChecker {
  return {
    async check({ jwt, method, path }, { token, keyThumbprint }) {
      const text = jwt.reveal();
      if (text.length > maxProofBytes) throw refusal('too long');
      const { header, payload } = readProof(text);
      await verifyProof(text, header, keyThumbprint);
      if (ownProperty(payload, 'htm') !== method) throw refusal('htm: another method');
      if (!isAbout(ownProperty(payload, 'htu'), origin, path)) throw refusal('htu: another URL');
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

/**
 * Verifies the signature by jose. The key comes with the proof; it counts because the token, whose signature has been
 * verified, names its thumbprint.
 */
async function verifyProof(text: string, header: JsonObject, keyThumbprint: string): Promise<void> {
  if (ownProperty(header, 'typ') !== 'dpop+jwt') throw refusal('typ: a token of another kind');
  const unsupported = findUnsupportedParameter(header);
  if (unsupported !== undefined) throw refusal(`${unsupported}: not supported`);
  const { alg, jwk } = readKey(ownProperty(header, 'jwk'), ownProperty(header, 'alg'));
  if ((await calculateJwkThumbprint(jwk)) !== keyThumbprint)
    throw refusal('jwk: not the key the token is bound to');
  const weakness = findWeakness(jwk);
  if (weakness !== undefined) throw refusal(`jwk: ${weakness}`);
  const key = await importKey(jwk, alg);
  try {
    await compactVerify(text, key, { algorithms: [alg] });
  } catch (cause) {
    throw refusal('the signature is wrong', cause);
  }
}

interface ProofKey {
  readonly alg: (typeof proofAlgorithms)[number];
  /** The members that RFC 7638 §3.2 hashes, and no others: nothing else of the client's object reaches jose. */
  readonly jwk: JWK;
}

/** Reads the public key of a proof. Throws `InvalidTokenError`. */
function readKey(jwk: unknown, alg: unknown): ProofKey {
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) throw refusal('jwk: missing');
  const read = (name: string): unknown => ownProperty(jwk as JsonObject, name);
  if (read('d') !== undefined) throw refusal('jwk: a private key');
  const { kty, crv, x, y } = { kty: read('kty'), crv: read('crv'), x: read('x'), y: read('y') };
  if (alg === 'ES256' && kty === 'EC' && crv === 'P-256' && isCoordinate(x) && isCoordinate(y))
    return { alg, jwk: { crv, kty, x, y } };
  if (alg === 'EdDSA' && kty === 'OKP' && crv === 'Ed25519' && isCoordinate(x))
    return { alg, jwk: { crv, kty, x } };
  throw refusal('jwk: not a key of ES256 or EdDSA');
}

async function importKey(jwk: JWK, alg: ProofKey['alg']): Promise<CryptoKey> {
  try {
    return (await importJWK(jwk, alg)) as CryptoKey;
  } catch (cause) {
    throw refusal('jwk: not a key', cause);
  }
}

/** 32 bytes in base64url, in the one canonical way. */
function isCoordinate(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/.test(value);
}

/** RFC 9449 §4.3: scheme, host, port and path, without query and fragment. The path must be exactly that of the request. */
function isAbout(htu: unknown, origin: string, path: string): boolean {
  if (typeof htu !== 'string' || !URL.canParse(htu)) return false;
  const url = new URL(htu);
  return url.origin === origin && url.username === '' && url.password === '' && url.pathname === path;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
