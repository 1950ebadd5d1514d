import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { TunnelError } from '../../../../protocol/errors.ts';
import { Secret } from '../../../../protocol/secret.ts';
import { proofChecker } from '../../../../server/auth/dpop/dpop.ts';
import type { ProofChecker } from '../../../../server/auth/dpop/dpop.ts';
import { sharedReplayMemory } from '../../../../server/auth/dpop/replay-cache.ts';
import { openSqliteStore } from '../../../../server/store/open-store.ts';
import type { Store } from '../../../../server/store/store.ts';
import { makeProof, newProofKey } from '../../support/proof.ts';
import type { ProofChange } from '../../support/proof.ts';

const origin = 'https://gw.example';
const path = '/ssh/tcp/box/22/';
const token = 'the.bound.token';
const nowMs = 1_800_000_000_000;
const key = newProofKey();
const other = newProofKey();
const about = { method: 'GET', url: `${origin}${path}`, token, nowMs };
const bound = { token, keyThumbprint: key.thumbprint };
const refusal = { name: 'InvalidTokenError' };

function proofOf(change: ProofChange = {}, more: Partial<typeof about> = {}): Secret {
  return new Secret(makeProof(key, { ...about, ...more }, change));
}

describe('a proof of possession', () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-dpop-'));
  const stores: Store[] = [];
  const open = async (now = (): number => nowMs, file = 'db'): Promise<ProofChecker> => {
    const store = await openSqliteStore(join(folder, file), { now });
    stores.push(store);
    return proofChecker({ origin, replays: sharedReplayMemory(await store.seen()), now });
  };
  let checker: ProofChecker;
  before(async () => (checker = await open()));
  after(async () => {
    for (const store of stores) await store.close();
    rmSync(folder, { recursive: true });
  });

  for (const alg of ['ES256', 'EdDSA'] as const) {
    it(`by ${alg} is good`, async () => {
      const own = newProofKey(alg);
      const jwt = new Secret(makeProof(own, about));
      await checker.check({ jwt, method: 'GET', path }, { token, keyThumbprint: own.thumbprint });
    });
  }

  const good: [what: string, jwt: Secret][] = [
    ['a clock that is a minute behind', proofOf({}, { nowMs: nowMs - 60_000 })],
    ['a clock that is a minute ahead', proofOf({}, { nowMs: nowMs + 60_000 })],
    ['a query and a fragment', proofOf({}, { url: `${origin}${path}?a=b#c` })],
    [
      'a scheme and a host in capitals, and the usual port',
      proofOf({}, { url: `HTTPS://GW.EXAMPLE:443${path}` }),
    ],
    [
      'members of the key that do not count',
      proofOf({ header: { jwk: { ...key.jwk, kid: 'k', use: 'sig' } } }),
    ],
  ];
  for (const [what, jwt] of good) {
    it(`with ${what} is good`, () => checker.check({ jwt, method: 'GET', path }, bound));
  }

  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwkWith = (more: object): ProofChange => ({ header: { jwk: { ...key.jwk, ...more } } });
  const privateJwk = key.privateKey.export({ format: 'jwk' });
  const bad: [what: string, jwt: Secret][] = [
    ['another method', proofOf({}, { method: 'POST' })],
    ['a method in small letters', proofOf({}, { method: 'get' })],
    ['another path', proofOf({}, { url: `${origin}/ssh/tcp/db/22/` })],
    [
      'a path that resolves to the same',
      proofOf({}, { url: `${origin}/ssh/x/../tcp/box/22/`, nowMs: nowMs - 90_000 }),
    ],
    ['another origin', proofOf({}, { url: `https://evil.example${path}` })],
    ['another scheme', proofOf({}, { url: `http://gw.example${path}` })],
    ['another port', proofOf({}, { url: `https://gw.example:8443${path}` })],
    ['a user name', proofOf({}, { url: `https://a@gw.example${path}` })],
    ['a path alone', proofOf({}, { url: path })],
    ['no htu', proofOf({ payload: { htu: undefined } })],
    ['a list as htu', proofOf({ payload: { htu: [`${origin}${path}`] } })],
    ['another token', proofOf({}, { token: 'another' })],
    ['no ath', proofOf({ payload: { ath: undefined } })],
    ['a clock that is more than a minute behind', proofOf({}, { nowMs: nowMs - 62_000 })],
    ['a clock that is more than a minute ahead', proofOf({}, { nowMs: nowMs + 62_000 })],
    ['no time', proofOf({ payload: { iat: undefined } })],
    ['a time as text', proofOf({ payload: { iat: String(nowMs / 1000) } })],
    ['no jti', proofOf({ payload: { jti: undefined } })],
    ['an empty jti', proofOf({ payload: { jti: '' } })],
    ['a long jti', proofOf({ payload: { jti: 'x'.repeat(129) } })],
    ['the key of another client', new Secret(makeProof(other, about))],
    ['the signature of another client', proofOf({ signer: other.privateKey })],
    ['alg none', proofOf({ header: { alg: 'none' } })],
    ['alg HS256', proofOf({ header: { alg: 'HS256' } })],
    [
      'alg RS256',
      proofOf({
        header: { alg: 'RS256', jwk: rsa.publicKey.export({ format: 'jwk' }) },
        signer: rsa.privateKey,
      }),
    ],
    ['the alg of another kind of key', proofOf({ header: { alg: 'EdDSA' } })],
    ['a private key', proofOf(jwkWith({ d: privateJwk.d }))],
    ['no key', proofOf({ header: { jwk: undefined } })],
    ['a point that is not on the curve', proofOf(jwkWith({ x: key.jwk.y, y: key.jwk.x }))],
    ['a coordinate in another spelling', proofOf(jwkWith({ x: `${String(key.jwk.x)}=` }))],
    ['typ JWT', proofOf({ header: { typ: 'JWT' } })],
    ['crit', proofOf({ header: { crit: ['x'] } })],
    ['white space', new Secret(`${proofOf().reveal()} `)],
    ['two proofs in one field', new Secret(`${proofOf().reveal()}, ${proofOf().reveal()}`)],
    ['too many bytes', proofOf({ payload: { more: 'x'.repeat(4096) } })],
    ['no text', new Secret('')],
  ];
  for (const [what, jwt] of bad) {
    it(`with ${what} is refused`, async () => {
      await assert.rejects(checker.check({ jwt, method: 'GET', path }, bound), refusal);
    });
  }

  it('is good once, however many uses are concurrent', async () => {
    const jwt = proofOf();
    const tries = Array.from({ length: 10_000 }, () => checker.check({ jwt, method: 'GET', path }, bound));
    const settled = await Promise.allSettled(tries);
    assert.equal(settled.filter(({ status }) => status === 'fulfilled').length, 1);
  });

  it('is good once for all processes that share a store', async () => {
    const checkers = [checker, await open(), await open()];
    const proofs = Array.from({ length: 100 }, () => proofOf());
    for (const jwt of proofs) {
      const tries = checkers.map((each) => each.check({ jwt, method: 'GET', path }, bound));
      const settled = await Promise.allSettled(tries);
      assert.equal(settled.filter(({ status }) => status === 'fulfilled').length, 1);
    }
  });

  it('is refused, and not as a bad one, when the store cannot tell whether it is new', async () => {
    const failing = new TunnelError('STORE_UNAVAILABLE', 'the disk is full');
    const replays = {
      async isNew(): Promise<boolean> {
        throw failing;
      },
    };
    const unsure = proofChecker({ origin, replays, now: () => nowMs });
    await assert.rejects(unsure.check({ jwt: proofOf(), method: 'GET', path }, bound), failing);
  });

  it('is remembered for as long as its time is accepted', async () => {
    let now = nowMs;
    const clocked = await open(() => now, 'other');
    const check = (jwt: Secret): Promise<void> => clocked.check({ jwt, method: 'GET', path }, bound);
    // From a clock that is a minute ahead: it could be used again for two minutes.
    const jwt = proofOf({}, { nowMs: nowMs + 60_000 });
    await check(jwt);
    for (let at = 0; at <= 120_000; at += 10_000) {
      now = nowMs + at;
      await assert.rejects(check(jwt), refusal, String(at));
      await check(proofOf({}, { nowMs: now }));
    }
  });

  it('that is refused uses up no jti', async () => {
    const payload = { jti: 'the same' };
    const wrong = proofOf({ payload: { ...payload, ath: 'x' } });
    await assert.rejects(checker.check({ jwt: wrong, method: 'GET', path }, bound), refusal);
    await checker.check({ jwt: proofOf({ payload }), method: 'GET', path }, bound);
  });
});
