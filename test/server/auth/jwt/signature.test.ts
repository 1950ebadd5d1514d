import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { sign } from 'node:crypto';
import { describe, it } from 'node:test';
import { CompactSign, compactVerify, exportJWK, generateKeyPair, importJWK } from 'jose';
import type { CryptoKey } from 'jose';
import { verifySignature } from '../../../../server/auth/jwt/signature.ts';
import type { SignatureAlgorithm } from '../../../../server/config/config.ts';

const algorithms: readonly SignatureAlgorithm[] = [
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
];
const pairs = new Map(
  await Promise.all(
    algorithms.map(async (alg) => [alg, await generateKeyPair(alg, { extractable: true })] as const),
  ),
);

async function tokenBy(alg: SignatureAlgorithm): Promise<string> {
  return new CompactSign(Buffer.from('{"sub":"alice"}'))
    .setProtectedHeader({ alg })
    .sign(pairs.get(alg)!.privateKey);
}

/** What jose says, with the same key. */
async function isSignedAsJoseSays(token: string, alg: string, key: CryptoKey): Promise<boolean> {
  return compactVerify(token, key, { algorithms: [alg] }).then(
    () => true,
    () => false,
  );
}

function withSignature(token: string, signature: Buffer): string {
  return `${token.slice(0, token.lastIndexOf('.'))}.${signature.toString('base64url')}`;
}

for (const alg of algorithms) {
  describe(`verifySignature() by ${alg}`, () => {
    const { publicKey } = pairs.get(alg)!;

    it('believes what jose has signed', async () =>
      assert.equal(verifySignature(await tokenBy(alg), alg, publicKey), true));

    it('says of every other signature what jose says', async () => {
      const token = await tokenBy(alg);
      const signature = Buffer.from(token.slice(token.lastIndexOf('.') + 1), 'base64url');
      const others = [
        ...Array.from({ length: signature.length }, (_, at) => {
          const flipped = Buffer.from(signature);
          flipped[at]! ^= 1;
          return flipped;
        }),
        ...[0, 1, 8, signature.length - 1].map((length) => signature.subarray(0, length)),
        Buffer.concat([signature, Buffer.alloc(1)]),
        Buffer.concat([Buffer.alloc(1), signature]),
        Buffer.alloc(signature.length),
        Buffer.alloc(signature.length, 0xff),
      ];
      for (const other of others) {
        const text = withSignature(token, other);
        assert.equal(verifySignature(text, alg, publicKey), false);
        assert.equal(await isSignedAsJoseSays(text, alg, publicKey), false);
      }
    });

    it('believes no token of which a byte has changed', async () => {
      const token = await tokenBy(alg);
      for (let at = 0; at < token.lastIndexOf('.'); at++) {
        const other = token[at] === 'A' ? 'B' : 'A';
        assert.equal(verifySignature(token.slice(0, at) + other + token.slice(at + 1), alg, publicKey), false);
      }
    });

    it('takes no key of another algorithm, and no key for anything else', async () => {
      const token = await tokenBy(alg);
      for (const other of algorithms) {
        const key = pairs.get(other)!.publicKey;
        if (other !== alg) assert.throws(() => verifySignature(token, alg, key), TypeError, other);
      }
      assert.throws(() => verifySignature(token, alg, pairs.get(alg)!.privateKey), TypeError);
    });

    it('tells the same key by its algorithm, whichever was asked for first', async () => {
      const token = await tokenBy(alg);
      assert.equal(verifySignature(token, alg, publicKey), true);
      const another = algorithms.find((each) => each !== alg)!;
      assert.throws(() => verifySignature(token, another, publicKey), TypeError);
      assert.equal(verifySignature(token, alg, publicKey), true);
    });
  });
}

describe('verifySignature()', () => {
  it('does not take a DER signature of an elliptic curve for one of a token', async () => {
    const { privateKey, publicKey } = pairs.get('ES256')!;
    const token = await tokenBy('ES256');
    const jwk = await exportJWK(privateKey);
    const der = sign('sha256', Buffer.from(token.slice(0, token.lastIndexOf('.'))), {
      key: jwk,
      format: 'jwk',
    });
    assert.equal(verifySignature(withSignature(token, der), 'ES256', publicKey), false);
  });

  it('takes no RSA key of less than 2048 bits', async () => {
    const { generateKeyPairSync } = await import('node:crypto');
    const jwk = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' });
    for (const alg of ['RS256', 'PS256'] as const) {
      const key = (await importJWK({ ...jwk }, alg)) as CryptoKey;
      assert.throws(() => verifySignature('a.b.c', alg, key), TypeError);
    }
  });

  it('takes no PSS signature whose salt is of another length', async () => {
    const { privateKey, publicKey } = pairs.get('PS256')!;
    const token = await tokenBy('PS256');
    const key = { key: await exportJWK(privateKey), format: 'jwk', padding: 6, saltLength: 20 } as const;
    const signature = sign('sha256', Buffer.from(token.slice(0, token.lastIndexOf('.'))), key);
    assert.equal(verifySignature(withSignature(token, signature), 'PS256', publicKey), false);
  });
});
