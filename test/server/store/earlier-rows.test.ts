import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, it } from 'node:test';
import { z } from 'zod';
import { openRevocations } from '../../../server/auth/revocations.ts';
import { createTicketStore } from '../../../server/auth/tickets.ts';
import { findAccount, listAccounts, verifyAccount } from '../../../server/login/accounts/accounts.ts';
import { openSigningKeys } from '../../../server/login/authorization-server/signing-keys.ts';
import { storeAdapter } from '../../../server/login/authorization-server/store-adapter.ts';
import { SignIns } from '../../../server/login/sign-ins.ts';
import { Identities } from '../../../server/login/upstream/identities.ts';
import { PendingLogins } from '../../../server/login/upstream/pending-logins.ts';
import { Revalidator } from '../../../server/login/upstream/revalidation.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import { sqlite } from '../../../server/store/sqlite.ts';
import type { Store } from '../../../server/store/store.ts';

type Entry = readonly [name: string, key: string, value: unknown, expiresAt: number | null];

/** As version 0.1.0 wrote them, which had no version in a row, at this time. They must never be changed. */
const writtenAt = 1_790_000_000_000;
const rows = readFileSync(new URL('rows-without-version.jsonl', import.meta.url), 'utf8');
const entries = rows
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as Entry);
const now = (): number => writtenAt + 1000;
/** The ticket and the cookie whose hashes are in the rows. */
const ticket = 'pt__zAgxYoppbsnTXgARXUFuOoRNzaK5aB9ai2qQAnSaWc';
const cookie = 'dh4uvFF8GrqxBy-_aMjdn9uuhJyYIH5QLSzSusmrmmo';

/** The tables as version 0.1.0 made them. */
const layout = `
  CREATE TABLE entries (
    name TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expiresAt INTEGER, PRIMARY KEY (name, key)
  ) WITHOUT ROWID;
  CREATE INDEX expiring ON entries (expiresAt) WHERE expiresAt IS NOT NULL;
  CREATE TABLE changes (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
  PRAGMA user_version = 1`;

describe('a database of version 0.1.0', () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-earlier-'));
  const origin = { provider: 'corp', subject: '1234', session: 'sess-1' };
  const identity = { subject: 'corp:alice', groups: ['dev'], provider: 'corp' };
  let files = 0;
  let file: string;
  let store: Store;

  after(() => rmSync(folder, { recursive: true }));
  beforeEach(async () => {
    file = join(folder, `store-${++files}.db`);
    writeFileSync(file, '', { mode: 0o600 });
    const database = new (sqlite().DatabaseSync)(file);
    database.exec(layout);
    const insert = database.prepare('INSERT INTO entries (name, key, value, expiresAt) VALUES (?, ?, ?, ?)');
    for (const [name, key, value, expiresAt] of entries)
      insert.run(name, key, JSON.stringify(value), expiresAt);
    database.close();
    store = await openSqliteStore(file, { now });
  });
  afterEach(() => store.close());

  it('has its accounts, and the counts of failed attempts', async () => {
    assert.deepEqual(
      (await listAccounts(store)).map(({ name, groups, hasOneTimeCode }) => [name, groups, hasOneTimeCode]),
      [
        ['alice', ['dev'], true],
        ['bob', [], false],
      ],
    );
    assert.deepEqual(await findAccount(store, 'alice'), { subject: 'alice', groups: ['dev'] });
    const attempt = { name: 'bob', password: 'correct horse battery', address: '192.0.2.1', now };
    assert.equal((await verifyAccount(store, attempt)).kind, 'ok');
    assert.equal(await store.table('deviceCodeAttempts', z.number()).get('192.0.2.9'), 3);
  });

  it('has its sign-ins, and ends them with all that hangs on them', async () => {
    const revocations = await openRevocations(store, { now });
    const signIns = new SignIns(store, revocations, { issuer: 'https://gw.example/oauth', now });
    const [browser] = await signIns.of('alice');
    assert.equal(browser?.agent, 'Chrome on Linux');
    assert.deepEqual((await signIns.find('device1'))?.origin, origin);
    assert.equal(await signIns.endFrom('corp', { session: 'sess-1' }, 'test'), 1);
    await signIns.end('browser1', 'test');
    const adapter = (model: string) =>
      storeAdapter(store, { onGrantEnded: async () => {}, onReplay: () => new RangeError('twice'), now })(
        model,
      );
    for (const [model, id] of [
      ['Session', 's1'],
      ['Grant', 'browser1'],
      ['RefreshToken', 'r1'],
    ] as const)
      assert.equal(await adapter(model).find(id), undefined, model);
    revocations.close();
  });

  it('has what the authorization server remembers', async () => {
    const adapter = (model: string) =>
      storeAdapter(store, { onGrantEnded: async () => {}, onReplay: () => new RangeError('twice'), now })(
        model,
      );
    assert.equal((await adapter('Session').findByUid('uid1'))?.accountId, 'alice');
    assert.equal((await adapter('DeviceCode').findByUserCode('BCDF'))?.['jti'], 'd1');
    await assert.rejects(adapter('ReplayDetection').upsert('p1', {}, 60), RangeError);
    await adapter('RefreshToken').consume('r1');
    await assert.rejects(adapter('RefreshToken').consume('r1'), RangeError);
    const keys = await openSigningKeys(store, { now });
    const [, , key] = entries.find(([name]) => name === 'signingKeys')!;
    assert.deepEqual(keys.current, [(key as { jwk: unknown }).jwk]);
    keys.close();
  });

  it('has its revocations and its tickets', async () => {
    const revocations = await openRevocations(store, { now });
    const someone = { issuer: 'https://gw.example/oauth', subject: 'x', issuedAt: new Date(writtenAt - 1) };
    for (const about of [
      { tokenId: 'jti-1' },
      { signInId: 'sid-1' },
      { keyThumbprint: 'thumb-1' },
      { subject: 'carol' },
      { issuer: 'https://idp.example', subject: 'dave' },
    ])
      assert.ok(revocations.isRevoked({ ...someone, ...about }), JSON.stringify(about));
    assert.ok(!revocations.isRevoked(someone));
    revocations.close();
    const tickets = createTicketStore(store, { now });
    const principal = await tickets.redeem(ticket);
    assert.deepEqual([principal.subject, principal.targets], ['alice', ['box:22']]);
    await tickets.redeem(ticket);
    await assert.rejects(tickets.redeem(ticket));
  });

  it('has what is kept of identity providers', async () => {
    const pending = new PendingLogins(store, now);
    const login = await pending.consume('state-1', 'corp', cookie);
    assert.deepEqual([login?.nonce, login?.verifier, login?.uid], ['nonce-1', 'verifier-1', 'interaction-1']);
    assert.deepEqual(await pending.takeResult('interaction-2'), { identity, origin });
    const identities = new Identities(store, () => true);
    assert.deepEqual(await identities.find('corp:alice'), identity);
    assert.equal(await store.table('upstreamLogout', z.literal(true)).add('["corp","jti-9"]', true), false);
    let asked: unknown[] = [];
    const config = { name: 'corp', recheck: true };
    const recheck = async (...parameters: unknown[]) => {
      asked = parameters;
      return { identity, origin, refreshToken: 'refresh-2' };
    };
    const revalidator = new Revalidator({
      store,
      identities,
      signIns: { endAll: async () => {} },
      providers: () => [{ config, recheck } as never],
      onError: assert.ifError,
      now,
    });
    assert.ok(await revalidator.isStillAllowed('corp:alice', 0));
    assert.deepEqual(asked, ['refresh-1', origin]);
  });

  it('can go on being written by version 0.1.0, beside this one', async () => {
    const signIns = store.table('signIn', z.looseObject({ id: z.string() }), { version: 2 });
    await signIns.put('new', { id: 'new', colour: 'red' });
    const earlier = new (sqlite().DatabaseSync)(file);
    const write = earlier.prepare(
      'INSERT INTO entries (name, key, value, expiresAt) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, expiresAt = excluded.expiresAt',
    );
    for (const id of ['new', 'old']) write.run('oauth', `signIn:${id}`, JSON.stringify({ id }), null);
    earlier.close();
    assert.deepEqual(await signIns.get('new'), { id: 'new' });
    assert.deepEqual(await signIns.get('old'), { id: 'old' });
  });
});
