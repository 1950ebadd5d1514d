import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import type { Store, Table, TableName } from '../../../server/store/store.ts';

const folder = mkdtempSync(join(tmpdir(), 'postern-store-'));
after(() => rmSync(folder, { recursive: true }));
let count = 0;
const newFile = (): string => join(folder, `store-${++count}.db`);
const module = fileURLToPath(new URL('../../../server/store/open-store.ts', import.meta.url));

async function using(file: string, work: (store: Store) => Promise<void>, now?: () => number): Promise<void> {
  const store = await openSqliteStore(file, now ? { now } : {});
  try {
    await work(store);
  } finally {
    await store.close();
  }
}

/** Runs a script that has `openSqliteStore` in a process of its own. */
function script(text: string): readonly string[] {
  return [
    '--input-type=module',
    '-e',
    `import { openSqliteStore } from ${JSON.stringify(module)};
    import { z } from ${JSON.stringify(import.meta.resolve('zod'))};
    const tableOf = (store, name = 'tickets') => store.table(name, z.unknown());
    ${text}`,
  ];
}

/** A table of any values. */
function tableOf(store: Store, name: TableName = 'tickets'): Table<unknown> {
  return store.table(name, z.unknown());
}

const up = (value: unknown): number => ((value as number | undefined) ?? 0) + 1;

describe('the store in a file of SQLite', () => {
  it('keeps what is put, apart by table, over a restart', async () => {
    const file = newFile();
    await using(file, async (store) => {
      await tableOf(store, 'accounts').put('alice', { groups: ['dev'] });
      await tableOf(store).put('alice', 1);
    });
    await using(file, async (store) => {
      assert.deepEqual(await tableOf(store, 'accounts').get('alice'), { groups: ['dev'] });
      assert.deepEqual(await tableOf(store, 'accounts').list(), [['alice', { groups: ['dev'] }]]);
      await tableOf(store, 'accounts').delete('alice');
      assert.equal(await tableOf(store, 'accounts').get('alice'), undefined);
      assert.equal(await tableOf(store).get('alice'), 1);
    });
  });

  it('adds once, takes once, and updates in one step', () =>
    using(newFile(), async (store) => {
      assert.deepEqual(await Promise.all([1, 2, 3].map((each) => tableOf(store).add('code', each))), [
        true,
        false,
        false,
      ]);
      const taken = await Promise.all([1, 2].map(() => tableOf(store).take('code')));
      assert.deepEqual(taken, [1, undefined]);
      await Promise.all(Array.from({ length: 50 }, () => tableOf(store).update('n', up)));
      assert.equal(await tableOf(store).get('n'), 50);
      assert.equal(await tableOf(store).update('n', () => undefined), undefined);
      assert.deepEqual(await tableOf(store).list(), []);
    }));

  it('leaves everything as it was when a change throws', () =>
    using(newFile(), async (store) => {
      await tableOf(store).put('a', 1);
      const failing = tableOf(store).update('a', () => {
        throw new RangeError('no');
      });
      await assert.rejects(failing, RangeError);
      assert.equal(await tableOf(store).get('a'), 1);
      await tableOf(store).put('a', 2);
    }));

  it('gives out nothing that has expired, and lets another row take its place', async () => {
    let now = 1000;
    await using(
      newFile(),
      async (store) => {
        await tableOf(store).put('a', 1, { expiresAt: 2000 });
        await tableOf(store).update('a', () => 2);
        now = 1999;
        assert.equal(await tableOf(store).get('a'), 2);
        now = 2000;
        assert.equal(await tableOf(store).get('a'), undefined);
        assert.equal(await tableOf(store).take('a'), undefined);
        assert.deepEqual(await tableOf(store).list(), []);
        assert.equal(await tableOf(store).add('a', 3), true);
      },
      () => now,
    );
  });

  it('is for its owner alone, and refuses a file that others can read', async () => {
    const file = newFile();
    await using(file, async (store) => {
      await tableOf(store, 'accounts').put('a', 1);
      for (const name of [file, `${file}-wal`, `${file}-shm`])
        assert.equal(statSync(name).mode & 0o777, 0o600);
    });
    const open = newFile();
    writeFileSync(open, '', { mode: 0o644 });
    await assert.rejects(openSqliteStore(open), { code: 'STORE_UNAVAILABLE' });
  });

  it('calls watchers when another process has changed their table, and for no other table and no change of their own', async () => {
    const file = newFile();
    await using(file, async (store) => {
      const calls: string[] = [];
      const called = Promise.withResolvers<void>();
      tableOf(store, 'accounts').watch(() => void calls.push('accounts'));
      const stop = tableOf(store, 'revocations').watch(() => {
        calls.push('revocations');
        called.resolve();
      });
      await tableOf(store, 'revocations').put('mine', 1);
      const text = `const store = await openSqliteStore(${JSON.stringify(file)});
        await tableOf(store, 'revocations').put('other', 1); await store.close();`;
      const child = spawn(process.execPath, script(text), { stdio: 'inherit' });
      await Promise.all([once(child, 'exit'), called.promise]);
      assert.deepEqual(calls, ['revocations']);
      assert.equal(await tableOf(store, 'revocations').get('other'), 1);
      stop();
    });
  });

  it('lets many processes count without losing one', async () => {
    const file = newFile();
    const text = `const store = await openSqliteStore(${JSON.stringify(file)});
      for (let i = 0; i < 20; i++) await tableOf(store).update('n', (n) => (n ?? 0) + 1);
      await store.close();`;
    const children = [1, 2, 3].map(() => spawn(process.execPath, script(text), { stdio: 'inherit' }));
    for (const [code] of await Promise.all(children.map((child) => once(child, 'exit'))))
      assert.equal(code, 0);
    await using(file, async (store) => assert.equal(await tableOf(store).get('n'), 60));
  });

  it('has after SIGKILL every write that had returned', async () => {
    const file = newFile();
    const text = `const store = await openSqliteStore(${JSON.stringify(file)});
      for (let i = 0; ; i++) { await tableOf(store).put('last', i); process.stdout.write(i + '\\n'); }`;
    const child = spawn(process.execPath, script(text), { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    for await (const chunk of child.stdout) {
      output += String(chunk);
      if (output.split('\n').length > 50) child.kill('SIGKILL');
    }
    const last = Number(output.split('\n').at(-2));
    await using(file, async (store) => assert.ok(((await tableOf(store).get('last')) as number) >= last));
  });

  it('treats a torn write as one that was not made', async () => {
    const file = newFile();
    await using(file, async (store) => {
      for (let at = 0; at < 10; at++) await tableOf(store).put('n', at);
      const log = readFileSync(`${file}-wal`).length;
      for (let cut = 0; cut <= 8192; cut += 512) {
        const copy = newFile();
        for (const suffix of ['', '-wal']) copyFileSync(`${file}${suffix}`, `${copy}${suffix}`);
        truncateSync(`${copy}-wal`, Math.max(0, log - cut));
        await using(copy, async (torn) => {
          const n = await tableOf(torn).get('n');
          assert.ok(n === undefined || (n as number) <= 9, String(n));
          if (cut === 0) assert.equal(n, 9);
        });
      }
    });
  });

  it('refuses a damaged file, and leaves it as it is', async () => {
    const file = newFile();
    await using(file, async (store) => {
      for (let at = 0; at < 500; at++) await tableOf(store).put(`key ${at}`, 'x'.repeat(100));
    });
    const whole = readFileSync(file);
    const damage: [what: string, bytes: Buffer][] = [
      ['other content', Buffer.from('this is no store, it is a letter to somebody\n'.repeat(50))],
      [
        'a page of noise',
        Buffer.concat([whole.subarray(0, 8192), Buffer.alloc(4096, 0xa5), whole.subarray(12_288)]),
      ],
      ['half of it', whole.subarray(0, Math.floor(whole.length / 2))],
    ];
    for (const [what, bytes] of damage) {
      const broken = newFile();
      writeFileSync(broken, bytes, { mode: 0o600 });
      await assert.rejects(openSqliteStore(broken), { code: 'STORE_UNAVAILABLE' }, what);
      assert.deepEqual(readFileSync(broken), bytes, what);
    }
  });

  it('refuses a file of a newer gateway', async () => {
    const file = newFile();
    await using(file, async () => {});
    const { DatabaseSync } = process.getBuiltinModule('node:sqlite');
    const database = new DatabaseSync(file);
    database.exec('PRAGMA user_version = 99');
    database.close();
    await assert.rejects(openSqliteStore(file), { code: 'STORE_UNAVAILABLE' });
  });

  it('reports a full disk, at the start and later, and continues with its rows', () => {
    const file = newFile();
    const text = `const file = ${JSON.stringify(file)};
      const store = await openSqliteStore(file);
      let code, at = 0;
      try { for (; at < 1000; at++) await tableOf(store).put('key ' + at, 'x'.repeat(2000)); } catch (error) { code = error.code; }
      console.log(code, at > 1, await tableOf(store).get('key 1') !== undefined);
      await store.close().catch(() => {});`;
    // A limit on the size of files is a full disk that needs no disk; ignored, the signal becomes an error.
    const limited = ['-c', 'trap "" XFSZ; ulimit -f 256; exec "$0" "$@"', process.execPath];
    const { stdout, stderr } = spawnSync('sh', [...limited, ...script(text)], { encoding: 'utf8' });
    assert.equal(stdout, 'STORE_UNAVAILABLE true true\n', stderr);
    const none = ['-c', 'trap "" XFSZ; ulimit -f 0; exec "$0" "$@"', process.execPath];
    const start = `await openSqliteStore(${JSON.stringify(newFile())}).catch((e) => console.error(e.code))`;
    // Nothing can be written to files, so it says so on a pipe.
    assert.equal(
      spawnSync('sh', [...none, ...script(start)], { encoding: 'utf8' }).stderr,
      'STORE_UNAVAILABLE\n',
    );
  });
});
