import { createHash, createPrivateKey, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import type { GatewayChallenge } from '../errors/failure.ts';

/** The key that a sign-in is bound to. The private key never leaves this machine. */
export interface ProofKey {
  readonly privateKey: KeyObject;
  readonly publicJwk: PublicJwk;
  /** Its SHA-256 thumbprint (RFC 7638), which identifies it in a bound token. */
  readonly thumbprint: string;
}

/** An ES256 key as it appears in a proof. */
export interface PublicJwk {
  readonly crv: 'P-256';
  readonly kty: 'EC';
  readonly x: string;
  readonly y: string;
}

/** Generates a key, and the private JWK to store. */
export function makeProofKey(): { readonly key: ProofKey; readonly privateJwk: string } {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const privateJwk = JSON.stringify(privateKey.export({ format: 'jwk' }));
  return { key: readProofKey(privateJwk)!, privateJwk };
}

/** Reads the key of a private JWK; undefined for anything else. */
export function readProofKey(privateJwk: string): ProofKey | undefined {
  try {
    const jwk = JSON.parse(privateJwk) as Readonly<Record<string, unknown>>;
    const { kty, crv, x, y } = jwk;
    if (kty !== 'EC' || crv !== 'P-256' || typeof x !== 'string' || typeof y !== 'string') return undefined;
    const publicJwk = { crv, kty, x, y } as const;
    return {
      privateKey: createPrivateKey({ key: { ...jwk }, format: 'jwk' }),
      publicJwk,
      // These members in this order, without white space: RFC 7638 §3.
      thumbprint: createHash('sha256').update(JSON.stringify(publicJwk)).digest('base64url'),
    };
  } catch {
    return undefined;
  }
}

/** Creates the value of the `DPoP` field for one request. */
export type Prove = (method: 'GET' | 'POST', url: URL) => string;

/** The content of a proof. */
export interface ProofFacts {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  /** Milliseconds since the epoch, by the clock of the server that checks it. */
  readonly now: number;
  /** The access token that is sent with the proof. */
  readonly token?: string;
  /** The nonce that the server asked for. */
  readonly nonce?: string;
}

/** Creates the value of a `DPoP` field for one request (RFC 9449 §4.2). */
export function createDpopProof(key: ProofKey, { method, url, now, token, nonce }: ProofFacts): string {
  const head = encode({ typ: 'dpop+jwt', alg: 'ES256', jwk: key.publicJwk });
  const claims = encode({
    jti: randomBytes(16).toString('base64url'),
    htm: method,
    htu: `${url.origin}${url.pathname}`,
    iat: Math.floor(now / 1000),
    ...(token === undefined ? {} : { ath: createHash('sha256').update(token).digest('base64url') }),
    ...(nonce === undefined ? {} : { nonce }),
  });
  const signed = Buffer.from(`${head}.${claims}`);
  const signature = sign('sha256', signed, { key: key.privateKey, dsaEncoding: 'ieee-p1363' });
  return `${head}.${claims}.${signature.toString('base64url')}`;
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** A smaller offset is not corrected: the gateway accepts proofs that are up to a minute off, and a slow response looks the same. */
const minOffsetMs = 10_000;

/** A larger error can be the reason for a refusal: the gateway accepts proofs that are off by a minute. */
const maxClockErrorMs = 45_000;

/** Whether the time that proofs were made with, the local one plus `offsetMs`, is far from that of the response. */
export function isClockOff({ date }: GatewayChallenge, offsetMs: number): boolean {
  return date !== undefined && Math.abs(date - (Date.now() + offsetMs)) > maxClockErrorMs;
}

/** How far the gateway's clock is ahead of the local one, in milliseconds, from the `Date` of a response; 0 for a small offset. */
export function clockOffset({ date }: GatewayChallenge, now = Date.now()): number {
  if (date === undefined) return 0;
  // `Date` is truncated to seconds: half a second is the mean error.
  const offset = date + 500 - now;
  return Math.abs(offset) < minOffsetMs ? 0 : offset;
}
