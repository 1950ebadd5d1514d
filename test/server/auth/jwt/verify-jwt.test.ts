import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { KeyObject, constants, generateKeyPairSync, sign, verify } from 'node:crypto';
import { describe, it } from 'node:test';
import { CompactSign, exportJWK, generateKeyPair, importJWK } from 'jose';
import type { CryptoKey } from 'jose';
import { verifyJwt } from '../../../../server/auth/jwt/verify-jwt.ts';
import type { JwtRequirements } from '../../../../server/auth/jwt/verify-jwt.ts';
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

const nowMs = 1_800_000_000_000;
const now = nowMs / 1000;
const claims = { iss: 'https://id.example', aud: 'postern', sub: 'alice', iat: now - 60, exp: now + 60 };
const refusal = { name: 'InvalidTokenError' };

function requirements(algorithm: SignatureAlgorithm): JwtRequirements {
  return { algorithm, issuer: claims.iss, audience: 'postern', maxAgeMs: 3_600_000, nowMs };
}

async function tokenBy(alg: SignatureAlgorithm, changes: object = {}, typ = 'JWT'): Promise<string> {
  return new CompactSign(Buffer.from(JSON.stringify({ ...claims, ...changes })))
    .setProtectedHeader({ alg, typ })
    .sign(pairs.get(alg)!.privateKey);
}

/** Whether the token is verified with this key; any refusal must be an `InvalidTokenError`. */
async function isVerified(token: string, alg: SignatureAlgorithm, key: CryptoKey): Promise<boolean> {
  try {
    return (await verifyJwt(token, [key], requirements(alg)))['sub'] === 'alice';
  } catch (error) {
    assert.equal((error as Error).name, refusal.name);
    return false;
  }
}

/** The result of Node.js itself on the signature. */
function isSignedAsNodeSays(token: string, alg: SignatureAlgorithm, key: CryptoKey): boolean {
  const at = token.lastIndexOf('.');
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: Number(alg.slice(2)) / 8 };
  return verify(
    alg === 'EdDSA' ? null : `sha${alg.slice(2)}`,
    Buffer.from(token.slice(0, at)),
    { key: KeyObject.from(key), dsaEncoding: 'ieee-p1363', ...(alg.startsWith('PS') && pss) },
    Buffer.from(token.slice(at + 1), 'base64url'),
  );
}

function withSignature(token: string, signature: Buffer): string {
  return `${token.slice(0, token.lastIndexOf('.'))}.${signature.toString('base64url')}`;
}

for (const alg of algorithms) {
  describe(`verifyJwt() by ${alg}`, () => {
    const { publicKey } = pairs.get(alg)!;

    it('accepts a token that jose has signed', async () =>
      assert.equal(await isVerified(await tokenBy(alg), alg, publicKey), true));

    it('refuses every other signature, as Node.js does', async () => {
      const token = await tokenBy(alg);
      assert.equal(isSignedAsNodeSays(token, alg, publicKey), true);
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
        assert.equal(await isVerified(text, alg, publicKey), false);
        assert.equal(isSignedAsNodeSays(text, alg, publicKey), false);
      }
    });

    it('accepts no token of which a byte has changed', async () => {
      const token = await tokenBy(alg);
      for (let at = 0; at < token.lastIndexOf('.'); at++) {
        const other = token[at] === 'A' ? 'B' : 'A';
        assert.equal(
          await isVerified(token.slice(0, at) + other + token.slice(at + 1), alg, publicKey),
          false,
        );
      }
    });

    it('accepts no key of another algorithm, and no key for anything else', async () => {
      const token = await tokenBy(alg);
      for (const other of algorithms) {
        const key = pairs.get(other)!.publicKey;
        if (other !== alg) await assert.rejects(verifyJwt(token, [key], requirements(alg)), refusal, other);
      }
      const { privateKey } = pairs.get(alg)!;
      await assert.rejects(verifyJwt(token, [privateKey], requirements(alg)), refusal);
    });

    it('accepts no other algorithm than the one that is required, whichever was required first', async () => {
      const token = await tokenBy(alg);
      assert.equal(await isVerified(token, alg, publicKey), true);
      const another = algorithms.find((each) => each !== alg)!;
      await assert.rejects(verifyJwt(token, [publicKey], requirements(another)), refusal);
      assert.equal(await isVerified(token, alg, publicKey), true);
    });
  });
}

describe('verifyJwt()', () => {
  it('does not accept a DER signature of an elliptic curve', async () => {
    const { privateKey, publicKey } = pairs.get('ES256')!;
    const token = await tokenBy('ES256');
    const jwk = await exportJWK(privateKey);
    const der = sign('sha256', Buffer.from(token.slice(0, token.lastIndexOf('.'))), {
      key: jwk,
      format: 'jwk',
    });
    assert.equal(await isVerified(withSignature(token, der), 'ES256', publicKey), false);
  });

  it('accepts no RSA key of less than 2048 bits', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    for (const alg of ['RS256', 'PS256'] as const) {
      const key = (await importJWK({ ...publicKey.export({ format: 'jwk' }) }, alg)) as CryptoKey;
      const token = await tokenBy(alg);
      const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
      const signer = { key: privateKey, ...(alg === 'PS256' && pss) };
      const signature = sign('sha256', Buffer.from(token.slice(0, token.lastIndexOf('.'))), signer);
      await assert.rejects(verifyJwt(withSignature(token, signature), [key], requirements(alg)), refusal);
    }
  });

  it('accepts no PSS signature whose salt is of another length', async () => {
    const { privateKey, publicKey } = pairs.get('PS256')!;
    const token = await tokenBy('PS256');
    const key = { key: await exportJWK(privateKey), format: 'jwk', padding: 6, saltLength: 20 } as const;
    const signature = sign('sha256', Buffer.from(token.slice(0, token.lastIndexOf('.'))), key);
    assert.equal(await isVerified(withSignature(token, signature), 'PS256', publicKey), false);
  });

  it('accepts a token by any of several candidates, and refuses it without any', async () => {
    const { publicKey } = pairs.get('ES256')!;
    const { publicKey: stranger } = await generateKeyPair('ES256');
    const token = await tokenBy('ES256');
    await verifyJwt(token, [stranger, publicKey], requirements('ES256'));
    await assert.rejects(verifyJwt(token, [stranger], requirements('ES256')), refusal);
    await assert.rejects(verifyJwt(token, [], requirements('ES256')), refusal);
  });

  // The text for the log, by the claim that is wrong.
  const refused: readonly (readonly [changes: object, message: RegExp])[] = [
    [{ iss: 'https://evil.example' }, /^iss: another issuer$/],
    [{ iss: undefined }, /^iss: missing/],
    [{ aud: ['other'] }, /^aud: another audience$/],
    [{ aud: undefined }, /^aud: missing/],
    [{ exp: now - 30 }, /^exp: expired$/],
    [{ exp: undefined }, /^exp: missing/],
    [{ exp: `${now + 60}` }, /^exp: missing, or of a wrong type$/],
    [{ iat: now + 31 }, /^iat: in the future/],
    [{ iat: now - 3631 }, /^iat: in the future, or longer ago/],
    [{ iat: undefined }, /^iat: missing/],
    [{ nbf: now + 31 }, /^nbf: not valid yet$/],
    [{ nbf: 'x' }, /^nbf: missing, or of a wrong type$/],
  ];
  for (const [changes, message] of refused) {
    it(`names the claim, and contains no other: ${JSON.stringify(changes)}`, async () => {
      const token = await tokenBy('EdDSA', { ...changes, sub: 'a-secret' });
      const { publicKey } = pairs.get('EdDSA')!;
      await assert.rejects(verifyJwt(token, [publicKey], requirements('EdDSA')), (error: Error) => {
        assert.match(error.message, message);
        assert.equal(error.name, refusal.name);
        assert.equal(error.cause, undefined);
        return true;
      });
    });
  }

  it('compares typ as a media type where one is required', async () => {
    const { publicKey } = pairs.get('EdDSA')!;
    const required = { ...requirements('EdDSA'), typ: 'at+jwt' };
    for (const typ of ['at+jwt', 'AT+JWT', 'application/at+jwt'])
      await verifyJwt(await tokenBy('EdDSA', {}, typ), [publicKey], required);
    for (const typ of ['JWT', 'x/at+jwt', 'at+jwt '])
      await assert.rejects(verifyJwt(await tokenBy('EdDSA', {}, typ), [publicKey], required), refusal);
  });
});
