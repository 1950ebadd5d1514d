import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from 'jose';
import { makeProofKey, createDpopProof, readProofKey } from '../../../client/oauth/dpop.ts';

const now = 1_800_000_000_999;

describe('prove()', () => {
  it('makes what RFC 9449 asks for, as jose reads it', async () => {
    const { key } = makeProofKey();
    const url = new URL('https://GW.example:443/ssh/tcp/%5B::1%5D/22/?q=1#f');
    const proof = createDpopProof(key, { method: 'GET', url, now, token: 't0ken', nonce: 'n' });
    const { payload, protectedHeader } = await jwtVerify(proof, EmbeddedJWK, { typ: 'dpop+jwt' });
    assert.equal(await calculateJwkThumbprint(protectedHeader.jwk!), key.thumbprint);
    assert.deepEqual(Object.keys(protectedHeader.jwk!).toSorted(), ['crv', 'kty', 'x', 'y']);
    const { jti, ...rest } = payload;
    assert.match(jti!, /^[\w-]{22}$/);
    assert.deepEqual(rest, {
      htm: 'GET',
      htu: 'https://gw.example/ssh/tcp/%5B::1%5D/22/',
      iat: 1_800_000_000,
      ath: createHash('sha256').update('t0ken').digest('base64url'),
      nonce: 'n',
    });
  });

  it('never makes the same proof twice', () => {
    const { key } = makeProofKey();
    const url = new URL('https://gw.example/');
    const proofs = Array.from({ length: 100 }, () => createDpopProof(key, { method: 'GET', url, now }));
    assert.equal(new Set(proofs).size, 100);
  });
});

describe('readProofKey()', () => {
  it('reads what makeProofKey() made', () => {
    const { key, privateJwk } = makeProofKey();
    assert.equal(readProofKey(privateJwk)?.thumbprint, key.thumbprint);
  });

  const { privateJwk } = makeProofKey();
  const jwk = JSON.parse(privateJwk) as Record<string, string>;
  for (const [what, text] of [
    ['nothing', ''],
    ['something else', '[]'],
    ['null', 'null'],
    ['a public key', JSON.stringify({ ...jwk, d: undefined })],
    ['another curve', JSON.stringify({ ...jwk, crv: 'P-384' })],
    ['a point that is none', JSON.stringify({ ...jwk, x: 'AAAA' })],
    ['a symmetric key', '{"kty":"oct","k":"AAAA"}'],
  ] as const) {
    it(`refuses ${what}`, () => assert.equal(readProofKey(text), undefined));
  }
});
