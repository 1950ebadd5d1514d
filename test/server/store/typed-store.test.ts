import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, it } from 'node:test';
import { z } from 'zod';
import type { StoreEngine } from '../../../server/store/engine.ts';
import { openSqliteEngine } from '../../../server/store/sqlite-engine.ts';
import type { Store } from '../../../server/store/store.ts';
import { TypedStore } from '../../../server/store/typed-store.ts';
import { CompareAndSetEngine } from './compare-and-set-engine.ts';

const folder = mkdtempSync(join(tmpdir(), 'postern-typed-'));
after(() => rmSync(folder, { recursive: true }));

const schema = z.object({
  name: z.string(),
  note: z.string().exactOptional(),
  hash: z.object({ cost: z.number() }),
});
const newerSchema = z.object({
  ...schema.shape,
  colour: z.string(),
  hash: z.object({ cost: z.number(), pepper: z.string() }),
});
const newer = { name: 'a', note: 'old', colour: 'red', hash: { cost: 1, pepper: 'x' } };

const upgrade = (value: unknown, version: number): unknown => ({
  ...(value as object),
  colour: `from ${version}`,
  hash: { cost: 1, pepper: '' },
});

let files = 0;
let now = 1000;
const engines: [name: string, make: () => StoreEngine][] = [
  ['SQLite', () => openSqliteEngine(join(folder, `store-${++files}.db`), () => now)],
  ['compare-and-set', () => new CompareAndSetEngine(() => now)],
];

for (const [name, make] of engines) {
  describe(`typed tables over ${name}`, () => {
    let engine: StoreEngine;
    let store: Store;
    beforeEach(() => {
      now = 1000;
      engine = make();
      store = new TypedStore(engine);
    });
    afterEach(() => store.close());

    it('add once, take once, and count every update of many at the same time', async () => {
      const numbers = store.table('tickets', z.number());
      const added = await Promise.all([1, 2, 3].map((each) => numbers.add('n', each)));
      assert.equal(added.filter(Boolean).length, 1);
      const taken = await Promise.all([1, 2, 3].map(() => numbers.take('n')));
      assert.equal(taken.filter((each) => each !== undefined).length, 1);
      await Promise.all(Array.from({ length: 30 }, () => numbers.update('n', (n = 0) => n + 1)));
      assert.equal(await numbers.get('n'), 30);
      if (engine instanceof CompareAndSetEngine) assert.ok(engine.conflicts > 0);
    });

    it('give nothing out that has expired, and keep the expiry over an update', async () => {
      const numbers = store.table('tickets', z.number());
      await numbers.put('n', 1, { expiresAt: 2000 });
      await numbers.update('n', () => 2);
      now = 1999;
      assert.equal(await numbers.get('n'), 2);
      now = 2000;
      assert.equal(await numbers.get('n'), undefined);
      assert.equal(await numbers.add('n', 3), true);
    });

    it('keep the fields and the version of a newer gateway over an update of this one', async () => {
      await store.table('accounts', newerSchema, { version: 2 }).put('a', newer);
      const table = store.table('accounts', schema);
      const updated = await table.update('a', (row) => row && { ...row, name: 'b' });
      assert.equal(updated?.name, 'b');
      const row = await engine.read('accounts', 'a');
      assert.deepEqual(row, { value: { ...newer, name: 'b' }, version: 2, expiresAt: undefined });
    });

    it('keep the unknown fields of a row that is made anew in an update, and none of what it replaces or removes', async () => {
      await store.table('accounts', newerSchema, { version: 2 }).put('a', newer);
      await store.table('accounts', schema).update('a', () => ({ name: 'b', hash: { cost: 2 } }));
      const row = await engine.read('accounts', 'a');
      assert.deepEqual(row?.value, { name: 'b', colour: 'red', hash: { cost: 2 } });
    });

    it('upgrade rows of an earlier version when they are read, and write them with the new one', async () => {
      await store.table('accounts', schema).put('a', { name: 'a', hash: { cost: 1 } });
      const table = store.table('accounts', newerSchema, { version: 2, upgrade });
      assert.equal((await table.get('a'))?.colour, 'from 1');
      assert.equal((await table.list())[0]?.[1].colour, 'from 1');
      assert.equal((await engine.read('accounts', 'a'))?.version, 1);
      await table.update('a', (row) => row && { ...row, name: 'b' });
      assert.deepEqual(await engine.read('accounts', 'a'), {
        value: { name: 'b', colour: 'from 1', hash: { cost: 1, pepper: '' } },
        version: 2,
        expiresAt: undefined,
      });
    });

    it('refuse a row that is not what the schema says, leave it as it is, and name no secret', async () => {
      await store.table('accounts', z.unknown()).put('key-secret', { name: 'value-secret', hash: 1 });
      const table = store.table('accounts', schema);
      for (const attempt of [
        () => table.get('key-secret'),
        () => table.take('key-secret'),
        () => table.update('key-secret', () => ({ name: 'b', hash: { cost: 1 } })),
        () => table.list(),
      ])
        await assert.rejects(attempt(), (error: Error & { code?: string }) => {
          assert.equal(error.code, 'STORE_UNAVAILABLE');
          assert.match(error.message, /accounts.*hash/);
          assert.doesNotMatch(error.message, /secret/);
          return true;
        });
      const row = await engine.read('accounts', 'key-secret');
      assert.deepEqual(row?.value, { name: 'value-secret', hash: 1 });
    });

    it('leave the row as it was when a change throws', async () => {
      const numbers = store.table('tickets', z.number());
      await numbers.put('n', 1);
      const failing = numbers.update('n', () => {
        throw new RangeError('no');
      });
      await assert.rejects(failing, RangeError);
      assert.equal(await numbers.get('n'), 1);
    });
  });
}
