import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { describe, it } from 'node:test';
import { JwksCache } from '../../../../server/auth/jwt/jwks-cache.ts';
import { remoteJwksPolicy } from '../../../../server/auth/jwt/issuer-keys.ts';
import { findWeakness, withoutWeakKeys } from '../../../../server/auth/jwt/weak-keys.ts';

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' });
const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
const ecPair = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
const secp256k1 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey.export({ format: 'jwk' });
const ed = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' });
const x25519 = generateKeyPairSync('x25519').publicKey.export({ format: 'jwk' });
const encode = (hex: string): string => Buffer.from(hex, 'hex').toString('base64url');

const good: Readonly<Record<string, object>> = {
  RSA: rsa,
  'RSA for PS256': { ...rsa, alg: 'PS256', use: 'sig' },
  'RSA with a longer exponent': { ...rsa, e: encode('0100000001') },
  'P-256': { ...ec, alg: 'ES256', key_ops: ['verify'] },
  Ed25519: { ...ed, alg: 'EdDSA' },
};

const weak: Readonly<Record<string, object>> = {
  'RSA of 1024 bits': small,
  ...Object.fromEntries(
    ['', '00', '01', '02', '03', '11', '010000', '010002', '00010000'].map((e) => [
      `an RSA exponent ${e}`,
      { ...rsa, e: encode(e) },
    ]),
  ),
  'a huge exponent': { ...rsa, e: Buffer.alloc(64, 0xff).toString('base64url') },
  'an even modulus': { ...rsa, n: Buffer.alloc(256, 0xfe).toString('base64url') },
  'a modulus of 32768 bits': { ...rsa, n: Buffer.alloc(4096, 0xff).toString('base64url') },
  'leading zeros that make a short modulus long': {
    ...small,
    n: Buffer.concat([Buffer.alloc(128), Buffer.from(small.n!, 'base64url')]).toString('base64url'),
  },
  'RSA for encryption by alg': { ...rsa, alg: 'RSA-OAEP' },
  'RSA for encryption by use': { ...rsa, use: 'enc' },
  'RSA for a shared secret': { ...rsa, alg: 'HS256' },
  'a key that only signs': { ...ec, key_ops: ['sign'] },
  'a key without operations': { ...ec, key_ops: [] },
  'a point off the curve': { ...ec, y: Buffer.alloc(32, 7).toString('base64url') },
  'the point at infinity': { ...ec, x: encode('00'.repeat(32)), y: encode('00'.repeat(32)) },
  'a point of another curve': { ...ec, crv: 'P-384' },
  'a curve for nothing here': secp256k1,
  'P-256 for ES384': { ...ec, alg: 'ES384' },
  'a private key': ecPair,
  'a shared secret': { kty: 'oct', k: 'AAAA' },
  'a shared secret in disguise': { ...rsa, k: 'AAAA' },
  X25519: x25519,
  'Ed25519 for RSA': { ...ed, alg: 'RS256' },
  ...Object.fromEntries(
    [
      `01${'00'.repeat(31)}`,
      `01${'00'.repeat(30)}80`,
      `ec${'ff'.repeat(30)}7f`,
      '00'.repeat(32),
      '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
      'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
      `ee${'ff'.repeat(31)}`,
    ].map((x) => [`an Ed25519 point of small order ${x.slice(0, 6)}${x.slice(-2)}`, { ...ed, x: encode(x) }]),
  ),
  'no object': [],
};

describe('keys that must not verify anything', () => {
  for (const [what, key] of Object.entries(good))
    it(`${what} can verify`, () => assert.equal(findWeakness(key), undefined));

  for (const [what, key] of Object.entries(weak))
    it(`${what} is refused`, () => assert.equal(typeof findWeakness(key), 'string'));

  it('are left out of a set and reported, and the others stay', async () => {
    const reports: string[] = [];
    const keys = [
      { ...rsa, kid: 'good' },
      { ...rsa, e: 'AQ', kid: 'weak' },
    ];
    const left = withoutWeakKeys({ keys }, (error) => reports.push(error.message));
    assert.deepEqual(
      left.keys.map(({ kid }) => kid),
      ['good'],
    );
    assert.match(reports.join('\n'), /^key 2 .*65537/);
    const cache = new JwksCache(async () => ({ keys }), { policy: remoteJwksPolicy });
    assert.equal((await cache.find({ alg: 'RS256', kid: 'good' })).length, 1);
    assert.equal((await cache.find({ alg: 'RS256', kid: 'weak' })).length, 0);
  });
});
