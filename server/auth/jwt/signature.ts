import { Buffer } from 'node:buffer';
import { KeyObject, constants, verify } from 'node:crypto';
import type { VerifyKeyObjectInput } from 'node:crypto';
import type { CryptoKey } from 'jose';
import type { SignatureAlgorithm } from '../../config/config.ts';

/** What an algorithm is made of, and what its keys say of themselves (Web Cryptography API). */
interface Scheme {
  readonly key: Readonly<{ name: string; namedCurve?: string; hash?: string }>;
  /** Of the bytes that are signed; null: the algorithm hashes by itself. */
  readonly hash: string | null;
  readonly options: Omit<VerifyKeyObjectInput, 'key'>;
}

const schemes: Readonly<Record<SignatureAlgorithm, Scheme>> = {
  ES256: ecdsa('P-256', 256),
  ES384: ecdsa('P-384', 384),
  ES512: ecdsa('P-521', 512),
  EdDSA: { key: { name: 'Ed25519' }, hash: null, options: {} },
  RS256: rsa('RSASSA-PKCS1-v1_5', 256),
  RS384: rsa('RSASSA-PKCS1-v1_5', 384),
  RS512: rsa('RSASSA-PKCS1-v1_5', 512),
  PS256: rsa('RSA-PSS', 256),
  PS384: rsa('RSA-PSS', 384),
  PS512: rsa('RSA-PSS', 512),
};

function ecdsa(namedCurve: string, bits: number): Scheme {
  return {
    key: { name: 'ECDSA', namedCurve },
    hash: `sha${bits}`,
    options: { dsaEncoding: 'ieee-p1363' },
  };
}

/** The salt of PSS is as long as the hash (RFC 7518 §3.5). */
function rsa(name: string, bits: number): Scheme {
  const { RSA_PKCS1_PADDING, RSA_PKCS1_PSS_PADDING } = constants;
  return {
    key: { name, hash: `SHA-${bits}` },
    hash: `sha${bits}`,
    options:
      name === 'RSA-PSS'
        ? { padding: RSA_PKCS1_PSS_PADDING, saltLength: bits / 8 }
        : { padding: RSA_PKCS1_PADDING },
  };
}

/** RFC 7518 §3.3 and §3.5. */
const leastRsaBits = 2048;

/**
 * Whether a token in compact form is signed by this key. Throws `TypeError` for a key that is not one of the algorithm.
 * In this thread: to have another one do it, as Web Crypto does, costs as much again, in waking it and being woken.
 */
export function verifySignature(token: string, algorithm: SignatureAlgorithm, key: CryptoKey): boolean {
  const at = token.lastIndexOf('.');
  const signed = Buffer.from(token.slice(0, at), 'latin1');
  return verify(
    schemes[algorithm].hash,
    signed,
    inputFor(algorithm, key),
    Buffer.from(token.slice(at + 1), 'base64url'),
  );
}

interface Prepared {
  readonly algorithm: SignatureAlgorithm;
  readonly input: VerifyKeyObjectInput;
}

/** A key goes from here when its key set does. */
const prepared = new WeakMap<CryptoKey, Prepared>();

function inputFor(algorithm: SignatureAlgorithm, key: CryptoKey): VerifyKeyObjectInput {
  const known = prepared.get(key);
  if (known?.algorithm === algorithm) return known.input;
  if (!isFor(algorithm, key)) throw new TypeError(`the key is not one of ${algorithm}`);
  const input = { key: KeyObject.from(key), ...schemes[algorithm].options };
  prepared.set(key, { algorithm, input });
  return input;
}

function isFor(algorithm: SignatureAlgorithm, key: CryptoKey): boolean {
  const wanted = schemes[algorithm].key;
  const { name, namedCurve, hash, modulusLength } = key.algorithm as {
    name: string;
    namedCurve?: string;
    hash?: { name: string };
    modulusLength?: number;
  };
  return (
    key.type === 'public' &&
    key.usages.includes('verify') &&
    name === wanted.name &&
    namedCurve === wanted.namedCurve &&
    hash?.name === wanted.hash &&
    (wanted.hash === undefined || (modulusLength !== undefined && modulusLength >= leastRsaBits))
  );
}
