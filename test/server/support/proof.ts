import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

type Json = Record<string, unknown>;

const encode = (value: string): string => Buffer.from(value).toString('base64url');
const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url');

/** A key that tokens can be bound to. */
export interface ProofKey {
  readonly alg: 'ES256' | 'EdDSA';
  readonly privateKey: KeyObject;
  readonly jwk: Json;
  /** `cnf.jkt` (RFC 7638). */
  readonly thumbprint: string;
}

export function newProofKey(alg: ProofKey['alg'] = 'ES256'): ProofKey {
  const { publicKey, privateKey } =
    alg === 'ES256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519');
  const { kty, crv, x, y } = publicKey.export({ format: 'jwk' });
  const jwk = { crv, kty, x, ...(y !== undefined && { y }) };
  return { alg, privateKey, jwk, thumbprint: sha256(JSON.stringify(jwk)) };
}

/** Changes to an otherwise valid proof. */
export interface ProofChange {
  readonly header?: Json;
  readonly payload?: Json;
  readonly signer?: KeyObject;
}

/** A proof (RFC 9449 §4.2) that the sender of `token` to `url` holds `key`. */
export function makeProof(
  key: ProofKey,
  about: { method: string; url: string; token: string; nowMs: number },
  { header = {}, payload = {}, signer = key.privateKey }: ProofChange = {},
): string {
  const head = JSON.stringify({ typ: 'dpop+jwt', alg: key.alg, jwk: key.jwk, ...header });
  const claims = {
    jti: randomUUID(),
    htm: about.method,
    htu: about.url,
    iat: Math.floor(about.nowMs / 1000),
    ath: sha256(about.token),
    ...payload,
  };
  const input = `${encode(head)}.${encode(JSON.stringify(claims))}`;
  const hash = signer.asymmetricKeyType === 'ed25519' ? null : 'sha256';
  const signature = sign(hash, Buffer.from(input), { key: signer, dsaEncoding: 'ieee-p1363' });
  return `${input}.${signature.toString('base64url')}`;
}
