import { createPublicKey } from 'node:crypto';
import type { JSONWebKeySet, JWK } from 'jose';

const minModulusBits = 2048;
/** A larger one only costs time. */
const maxModulusBits = 16_384;
const minExponent = 65_537n;
/** NIST SP 800-56B: an exponent is below 2^256. */
const maxExponentBits = 256;

/** The points of Ed25519 whose order is 8 or less, and the other encodings of some (RFC 8032 section 5.1.3): signatures of such a key can be made without its private half. */
const smallOrder: ReadonlySet<string> = new Set([
  '0100000000000000000000000000000000000000000000000000000000000000',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  '0000000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
]);

/** A key of an issuer is not used. */
export class WeakKeyError extends Error {
  override readonly name = 'WeakKeyError';
}

/** The set without the keys that must not verify anything; `onWeak` is called with the reason for each. */
export function withoutWeakKeys(jwks: JSONWebKeySet, onWeak?: (error: WeakKeyError) => void): JSONWebKeySet {
  if (!Array.isArray(jwks.keys)) return jwks;
  const keys = jwks.keys.filter((key: unknown, at) => {
    const why = findWeakness(key);
    if (why !== undefined) onWeak?.(new WeakKeyError(`key ${at + 1} of the set is not used: ${why}`));
    return why === undefined;
  });
  return { ...jwks, keys };
}

/** Why a public key must not verify signatures; undefined: it can. Keys of unknown kinds are left to their reader. */
export function findWeakness(jwk: unknown): string | undefined {
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) return 'it is not a key';
  const { kty, use, key_ops: operations } = jwk as Partial<JWK>;
  if (use !== undefined && use !== 'sig') return 'use: it is not for signatures';
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify')))
    return 'key_ops: it is not for verifying';
  if (kty === 'oct' || 'k' in jwk) return 'kty: a shared secret, which verifies and signs';
  if ('d' in jwk) return 'd: a private key that has been published';
  if (kty === 'RSA') return rsaWeakness(jwk);
  if (kty === 'EC') return ecWeakness(jwk);
  return kty === 'OKP' ? edWeakness(jwk) : undefined;
}

function rsaWeakness({ n, e, alg }: Partial<JWK>): string | undefined {
  if (alg !== undefined && !/^(?:RS|PS)(?:256|384|512)$/.test(alg)) return 'alg: not one of RSA signatures';
  const [modulus, exponent] = [integerOf(n), integerOf(e)];
  if (modulus === undefined || exponent === undefined) return 'n or e: not a number';
  const bits = modulus.toString(2).length;
  if (bits < minModulusBits || bits > maxModulusBits) return `n: ${bits} bits`;
  if (modulus % 2n === 0n) return 'n: even';
  if (exponent < minExponent || exponent % 2n === 0n) return 'e: it must be odd and at least 65537';
  return exponent.toString(2).length > maxExponentBits ? 'e: too large' : undefined;
}

const curves: Readonly<Record<string, string>> = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' };

function ecWeakness(jwk: Partial<JWK>): string | undefined {
  const { crv = '', alg, x, y } = jwk;
  const expected = Object.hasOwn(curves, crv) ? curves[crv] : undefined;
  if (expected === undefined) return 'crv: not a curve of signatures here';
  if (alg !== undefined && alg !== expected) return `alg: ${crv} is for ${expected}`;
  try {
    // OpenSSL checks that the point is on the curve.
    createPublicKey({ key: { kty: 'EC', crv, x: String(x), y: String(y) }, format: 'jwk' });
    return undefined;
  } catch {
    return 'x and y: not a point of the curve';
  }
}

function edWeakness({ crv, alg, x }: Partial<JWK>): string | undefined {
  if (crv !== 'Ed25519') return 'crv: not a curve of signatures here';
  if (alg !== undefined && alg !== 'EdDSA' && alg !== 'Ed25519') return 'alg: Ed25519 is for EdDSA';
  const bytes = typeof x === 'string' ? Buffer.from(x, 'base64url') : undefined;
  if (bytes?.length !== 32) return 'x: not 32 bytes';
  // The highest bit is the sign of the other coordinate.
  bytes[31]! &= 0x7f;
  return smallOrder.has(bytes.toString('hex')) ? 'x: a point of small order' : undefined;
}

function integerOf(text: unknown): bigint | undefined {
  if (typeof text !== 'string' || !/^[A-Za-z0-9_-]{1,8192}$/.test(text)) return undefined;
  const hex = Buffer.from(text, 'base64url').toString('hex');
  return hex === '' ? undefined : BigInt(`0x${hex}`);
}
