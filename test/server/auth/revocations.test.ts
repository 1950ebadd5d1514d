import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { openRevocations } from '../../../server/auth/revocations.ts';
import { appliesTo } from '../../../server/auth/revocation.ts';
import type { Revocable, Revocation } from '../../../server/auth/revocation.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';

const folder = mkdtempSync(join(tmpdir(), 'postern-revocations-'));
after(() => rmSync(folder, { recursive: true }));
let count = 0;
const newFile = (): string => join(folder, `${++count}.db`);

const alice: Revocable = {
  issuer: 'https://id.example',
  subject: 'alice',
  tokenId: 't1',
  signInId: 's1',
  keyThumbprint: 'k1',
  issuedAt: new Date(1000),
};
const { issuer, subject } = alice;

const table: [revocation: Revocation, isAbout: boolean][] = [
  [{ kind: 'token', tokenId: 't1' }, true],
  [{ kind: 'token', tokenId: 't2' }, false],
  [{ kind: 'signIn', signInId: 's1' }, true],
  [{ kind: 'signIn', signInId: 't1' }, false],
  [{ kind: 'key', keyThumbprint: 'k1' }, true],
  [{ kind: 'key', keyThumbprint: 's1' }, false],
  // What was made in the same moment counts as made before.
  [{ kind: 'subject', subject, issuedBefore: 1000 }, true],
  [{ kind: 'subject', subject, issuedBefore: 1999 }, true],
  [{ kind: 'subject', subject, issuedBefore: 999 }, false],
  [{ kind: 'subject', subject, issuer, issuedBefore: 1001 }, true],
  [{ kind: 'subject', subject, issuer: 'https://other.example', issuedBefore: 1001 }, false],
  [{ kind: 'subject', subject: 'bob', issuedBefore: 1001 }, false],
];

describe('revocations', () => {
  // The store looks for changes of other processes by a timer that keeps no process alive.
  let keepAlive: NodeJS.Timeout;
  before(() => (keepAlive = setInterval(() => {}, 1000)));
  after(() => clearInterval(keepAlive));

  for (const [revocation, isAbout] of table) {
    it(`${JSON.stringify(revocation)} ${isAbout ? 'is' : 'is not'} about alice`, async () => {
      const store = await openSqliteStore(newFile());
      const revocations = await openRevocations(store);
      assert.equal(appliesTo(revocation, alice), isAbout);
      await revocations.revoke(revocation, 'a test');
      assert.equal(revocations.isRevoked(alice), isAbout);
      await store.close();
    });
  }

  it('do not touch tokens without an id and a sign-in', async () => {
    const store = await openSqliteStore(newFile());
    const revocations = await openRevocations(store);
    await revocations.revoke({ kind: 'token', tokenId: 'undefined' }, '');
    await revocations.revoke({ kind: 'key', keyThumbprint: 'undefined' }, '');
    assert.equal(revocations.isRevoked({ issuer, subject, issuedAt: new Date() }), false);
    await store.close();
  });

  it('hold from the moment they are asked for, and after a restart', async () => {
    const file = newFile();
    const store = await openSqliteStore(file);
    const revocations = await openRevocations(store);
    const told: string[] = [];
    revocations.onRevoked(({ kind }, reason) => told.push(`${kind} ${reason}`));
    const durable = revocations.revoke({ kind: 'signIn', signInId: 's1' }, 'signed out');
    assert.equal(revocations.isRevoked(alice), true);
    assert.deepEqual(told, ['signIn signed out']);
    await durable;
    await revocations.revoke({ kind: 'signIn', signInId: 's1' }, 'once more');
    assert.equal(told.length, 1);
    await store.close();
    const again = await openSqliteStore(file);
    assert.equal((await openRevocations(again)).isRevoked(alice), true);
    await again.close();
  });

  it('of a subject: the latest counts, in whatever order they come', async () => {
    const file = newFile();
    for (const times of [
      [500, 2000],
      [2000, 500],
    ]) {
      const store = await openSqliteStore(`${file}.${times[0]}`);
      const revocations = await openRevocations(store);
      for (const issuedBefore of times)
        await revocations.revoke({ kind: 'subject', subject, issuedBefore }, '');
      assert.equal(revocations.isRevoked(alice), true);
      await store.close();
      const again = await openSqliteStore(`${file}.${times[0]}`);
      assert.equal((await openRevocations(again)).isRevoked(alice), true);
      await again.close();
    }
  });

  it('of another process arrive', async () => {
    const file = newFile();
    const [here, there] = [await openSqliteStore(file), await openSqliteStore(file)];
    const revocations = await openRevocations(here);
    const told = Promise.withResolvers<string>();
    revocations.onRevoked((_, reason) => told.resolve(reason));
    const startedAt = performance.now();
    await (await openRevocations(there)).revoke({ kind: 'token', tokenId: 't1' }, 'by the other');
    assert.equal(await told.promise, 'by the other');
    assert.ok(performance.now() - startedAt < 5000);
    assert.equal(revocations.isRevoked(alice), true);
    await Promise.all([here.close(), there.close()]);
  });

  it('hold in this process even when the store has gone', async () => {
    const store = await openSqliteStore(newFile());
    const revocations = await openRevocations(store);
    revocations.close();
    await store.close();
    await assert.rejects(revocations.revoke({ kind: 'token', tokenId: 't1' }, ''));
    assert.equal(revocations.isRevoked(alice), true);
  });
});

const at = (ms: number): { issuedAt: Date } => ({ issuedAt: new Date(ms) });

const revokeAlice = (list: Awaited<ReturnType<typeof openRevocations>>): Promise<void> =>
  list.revoke({ kind: 'subject', subject: 'alice', issuedBefore: list.now(), toleranceMs: 30_000 }, 'test');

describe('revocations and clocks', () => {
  const start = Date.now();
  let now = start;
  let monotonic = 0;
  const pass = (ms: number): void => {
    now += ms;
    monotonic += ms;
  };
  let keepAlive: NodeJS.Timeout;
  before(() => (keepAlive = setInterval(() => {}, 1000)));
  after(() => clearInterval(keepAlive));
  const own = { issuer: 'https://gw.example/ssh/', subject: 'alice', ownClock: true } as const;
  const foreign = { issuer, subject: 'alice' };

  async function withList(
    work: (list: Awaited<ReturnType<typeof openRevocations>>, file: string) => Promise<void>,
  ): Promise<void> {
    [now, monotonic] = [start, 0];
    const file = newFile();
    const store = await openSqliteStore(file);
    const list = await openRevocations(store, { now: () => now, monotonic: () => monotonic });
    try {
      await work(list, file);
    } finally {
      list.close();
      await store.close();
    }
  }

  for (const aheadMs of [0, 1, 5000, 29_000, 30_000])
    it(`refuse a token of another issuer that is ${aheadMs} ms ahead, whether it was seen or not, and later too`, async () =>
      withList(async (list) => {
        const seen = { ...foreign, tokenId: 'seen', ...at(now + aheadMs) };
        assert.equal(list.isRevoked(seen), false);
        await revokeAlice(list);
        for (const laterMs of [0, 10_000, 50_000]) {
          pass(laterMs);
          assert.equal(list.isRevoked(seen), true);
          assert.equal(list.isRevoked({ ...seen, tokenId: 'unseen' }), true);
        }
        assert.equal(list.isRevoked({ ...foreign, ...at(start + 30_001) }), false);
      }));

  it("refuse a token of the gateway's own key that was accepted or is presented ahead, after a restart too, and no new one", async () =>
    withList(async (list, file) => {
      const seen = { ...own, tokenId: 'seen', ...at(now + 20_000) };
      const unseen = { ...own, tokenId: 'unseen', ...at(now + 20_000) };
      assert.equal(list.isRevoked(seen), false);
      await revokeAlice(list);
      assert.equal(list.isRevoked(seen), true);
      assert.equal(list.isRevoked(unseen), true);
      assert.equal(list.isRevoked({ ...own, tokenId: 'new', ...at(now + 1) }), true, 'from the future');
      pass(2);
      assert.equal(list.isRevoked({ ...own, tokenId: 'newer', ...at(now) }), false);
      pass(60_000);
      const again = await openSqliteStore(file);
      while ((await again.table('revocations', z.unknown()).list()).length < 4) await delay(10);
      const restarted = await openRevocations(again, { now: () => now });
      for (const token of [seen, unseen]) assert.equal(restarted.isRevoked(token), true, token.tokenId);
      restarted.close();
      await again.close();
    }));

  it('refuse what was accepted before the clock was set back', async () =>
    withList(async (list) => {
      const token = { ...own, tokenId: 't', ...at(now) };
      assert.equal(list.isRevoked(token), false);
      now -= 3_600_000;
      await revokeAlice(list);
      assert.equal(list.isRevoked(token), true);
      now += 7_200_000;
      pass(1);
      assert.equal(list.isRevoked(token), true);
      assert.equal(list.isRevoked({ ...own, ...at(now) }), false);
    }));

  it('refuse what was issued before, when the clock was behind and is set right later', async () =>
    withList(async (list) => {
      const trueTime = now + 3_600_000;
      await revokeAlice(list);
      now = trueTime;
      pass(60_000);
      assert.equal(list.isRevoked({ ...foreign, ...at(trueTime - 300_000) }), true);
      assert.equal(list.isRevoked({ ...foreign, ...at(now) }), false);
    }));

  it('let a new sign-in be dated after them, whatever the clock says', async () =>
    withList(async (list) => {
      await revokeAlice(list);
      now -= 3_600_000;
      const proof = list.revokedUntil(own.issuer, 'alice')! + 2;
      assert.equal(list.isRevoked({ ...own, signInId: 'old', ...at(now) }), true);
      assert.equal(list.isRevoked({ ...own, signInId: 'new', ...at(proof) }), false);
      assert.equal(list.revokedUntil(own.issuer, 'bob'), undefined);
    }));
});

describe('revocations while the store cannot be written', () => {
  let keepAlive: NodeJS.Timeout;
  before(() => (keepAlive = setInterval(() => {}, 1000)));
  after(() => clearInterval(keepAlive));

  it('hold at once, are written as soon as it can be, and are counted until then', async () => {
    const file = newFile();
    const store = await openSqliteStore(file);
    const list = await openRevocations(store);
    const lock = new (process.getBuiltinModule('node:sqlite').DatabaseSync)(file);
    lock.exec('BEGIN EXCLUSIVE');
    await assert.rejects(list.revoke({ kind: 'token', tokenId: 't1' }, 'test'), {
      code: 'STORE_UNAVAILABLE',
    });
    assert.equal(list.isRevoked(alice), true);
    assert.equal(list.unwritten, 1);
    lock.exec('ROLLBACK');
    lock.close();
    while (list.unwritten > 0) await delay(20);
    list.close();
    await store.close();
    const again = await openSqliteStore(file);
    const restarted = await openRevocations(again);
    assert.equal(restarted.isRevoked(alice), true);
    restarted.close();
    await again.close();
  });

  it('are in force although another row is damaged, and are written into a file that was put in place of theirs', async () => {
    const file = newFile();
    const store = await openSqliteStore(file);
    const errors: unknown[] = [];
    const list = await openRevocations(store, { onError: (error) => errors.push(error) });
    const other = await openSqliteStore(file);
    await other.table('revocations', z.unknown()).put('damaged', { revocation: 'none' });
    const theirs = await openRevocations(other).catch((error: { code?: string }) => error.code);
    assert.equal(theirs, 'STORE_UNAVAILABLE');
    while (errors.length === 0) await delay(20);
    await other.close();
    await list.revoke({ kind: 'token', tokenId: 't1' }, 'test');
    const fresh = newFile();
    await (await openSqliteStore(fresh)).close();
    renameSync(fresh, file);
    const about = await openSqliteStore(file);
    while ((await about.table('revocations', z.unknown()).list()).length === 0) await delay(20);
    list.close();
    await Promise.all([store.close(), about.close()]);
  });
});
