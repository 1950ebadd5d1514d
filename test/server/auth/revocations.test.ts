import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { appliesTo, openRevocations } from '../../../server/auth/revocations.ts';
import type { Revocable, Revocation } from '../../../server/auth/revocations.ts';
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
