import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { after, afterEach, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { openRevocations } from '../../../server/auth/revocations.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import type { Store } from '../../../server/store/store.ts';

const folder = mkdtempSync(join(tmpdir(), 'postern-store-files-'));
const locks = new Set<ChildProcess>();
const stores = new Set<Store>();
afterEach(async () => {
  for (const lock of locks) lock.kill('SIGKILL');
  locks.clear();
  for (const store of stores) await store.close();
  stores.clear();
});
after(() => rmSync(folder, { recursive: true }));
let count = 0;
function newFile(): string {
  const own = join(folder, `s${++count}`);
  mkdirSync(own);
  return join(own, 'postern.db');
}

/** A second process that holds the lock for writes until the function it resolves to is called. */
async function lock(file: string): Promise<() => Promise<void>> {
  const script = `const { DatabaseSync } = require('node:sqlite');
    const database = new DatabaseSync(${JSON.stringify(file)});
    database.exec('BEGIN EXCLUSIVE');
    console.log('locked');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  locks.add(child);
  await once(child.stdout, 'data');
  return async () => {
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
}

async function open(file: string, notices: string[] = []): Promise<Store> {
  const store = await openSqliteStore(file, { onNotice: (text) => void notices.push(text) });
  stores.add(store);
  return store;
}

const numbers = (store: Store) => store.table('tickets', z.number());

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await delay(20);
}

describe('a store whose lock another process holds', () => {
  it('never holds the event loop, answers reads, and writes as soon as it can', async () => {
    const file = newFile();
    const store = await open(file);
    await numbers(store).put('before', 1);
    const release = await lock(file);
    const histogram = monitorEventLoopDelay({ resolution: 5 });
    histogram.enable();
    const writes = [1, 2, 3, 4, 5].map((each) => numbers(store).put(`n${each}`, each));
    const startedAt = performance.now();
    assert.equal(await numbers(store).get('before'), 1);
    await delay(1000);
    assert.equal(await numbers(store).get('n1'), undefined);
    await release();
    await Promise.all(writes);
    histogram.disable();
    assert.equal(await numbers(store).get('n5'), 5);
    // A write on the event loop would hold it for as long as the lock is held.
    assert.ok(histogram.max / 1e6 < performance.now() - startedAt - 500, `${histogram.max / 1e6} ms`);
  });

  it('fails with STORE_UNAVAILABLE after some seconds, says so until it works again, and refuses a flood', async () => {
    const file = newFile();
    const notices: string[] = [];
    const store = await open(file, notices);
    assert.equal(store.failure, undefined);
    const release = await lock(file);
    const flood = Array.from({ length: 5100 }, () => numbers(store).put('n', 1));
    const results = Promise.allSettled(flood);
    await until(() => store.failure !== undefined);
    const codes = (await results).map((each) =>
      each.status === 'rejected' ? (each.reason as { code?: string }).code : 'written',
    );
    assert.deepEqual([...new Set(codes)], ['STORE_UNAVAILABLE']);
    await release();
    await until(() => store.failure === undefined);
    await numbers(store).put('n', 2);
    assert.match(notices.join('\n'), /cannot be written.*\n.*written again/);
  });

  it('is reported without any request', async () => {
    const file = newFile();
    const store = await open(file);
    const release = await lock(file);
    await until(() => store.failure !== undefined);
    await release();
    await until(() => store.failure === undefined);
  });
});

describe('a store whose files change under it', () => {
  it('is opened again when its file was replaced, and does not take the log of the one before', async () => {
    const file = newFile();
    const notices: string[] = [];
    const store = await open(file, notices);
    await numbers(store).put('of the backup', 1);
    const backup = `${file}.backup`;
    const { status } = spawnSync('sqlite3', [file, `.backup ${backup}`]);
    assert.equal(status, 0);
    chmodSync(backup, 0o600);
    await numbers(store).put('after the backup', 2);
    let calls = 0;
    numbers(store).watch(() => calls++);
    renameSync(backup, file);
    await until(() => calls > 0);
    assert.equal(await numbers(store).get('of the backup'), 1);
    assert.equal(await numbers(store).get('after the backup'), undefined);
    assert.match(notices.join('\n'), /was replaced/);
    await numbers(store).put('from now on', 3);
    await store.close();
    const again = await open(file);
    assert.equal(await numbers(again).get('from now on'), 3);
  });

  it('is opened again when a backup was copied over its file, and plays no log into it', async () => {
    const file = newFile();
    const notices: string[] = [];
    const store = await open(file, notices);
    await numbers(store).put('of the backup', 1);
    const backup = `${file}.backup`;
    assert.equal(spawnSync('sqlite3', [file, `.backup ${backup}`]).status, 0);
    for (let each = 0; each < 30; each++) await numbers(store).put(`after the backup ${each}`, each);
    const revocations = await openRevocations(store);
    await revocations.revoke({ kind: 'token', tokenId: 't1' }, 'after the backup');
    let calls = 0;
    numbers(store).watch(() => calls++);
    // The same inode: cp and cat > write into the file that is open.
    const seen = statSync(file).ino;
    writeFileSync(file, readFileSync(backup));
    assert.equal(statSync(file).ino, seen);
    await until(() => calls > 0);
    assert.deepEqual(await numbers(store).list(), [['of the backup', 1]]);
    assert.match(notices.join('\n'), /was replaced/);
    await numbers(store).put('from now on', 3);
    await until(() => revocations.unwritten === 0 && store.failure === undefined);
    revocations.close();
    await store.close();
    assert.equal(spawnSync('sqlite3', [file, 'PRAGMA integrity_check']).stdout.toString().trim(), 'ok');
    const again = await open(file);
    assert.deepEqual(await numbers(again).list(), [
      ['from now on', 3],
      ['of the backup', 1],
    ]);
    const about = { issuer: 'i', subject: 's', tokenId: 't1', issuedAt: new Date() };
    const list = await openRevocations(again);
    assert.equal(list.isRevoked(about), true);
    list.close();
  });

  it('makes no new store of a file that was emptied, and waits for the rest of a copy', async () => {
    const file = newFile();
    const store = await open(file);
    await numbers(store).put('n', 1);
    const backup = `${file}.backup`;
    assert.equal(spawnSync('sqlite3', [file, `.backup ${backup}`]).status, 0);
    await delay(300);
    const bytes = readFileSync(backup);
    truncateSync(file, 0);
    await until(() => store.failure !== undefined);
    await assert.rejects(numbers(store).put('n', 2), { code: 'STORE_UNAVAILABLE' });
    assert.equal(statSync(file).size, 0);
    writeFileSync(file, bytes.subarray(0, 5000));
    await delay(1500);
    await assert.rejects(numbers(store).put('n', 2), { code: 'STORE_UNAVAILABLE' });
    writeFileSync(file, bytes);
    await until(() => store.failure === undefined);
    assert.equal(await numbers(store).get('n'), 1);
  });

  it('keeps all that was written when its file is only touched, or SQLite copies its log into it', async () => {
    const file = newFile();
    const notices: string[] = [];
    const store = await open(file, notices);
    await numbers(store).put('n', 1);
    await delay(500);
    utimesSync(file, 1e9, 1e9);
    await delay(1000);
    await numbers(store).put('m', 2);
    for (let each = 0; each < 3; each++) {
      await numbers(store).put('o', each);
      assert.equal(spawnSync('sqlite3', [file, 'PRAGMA wal_checkpoint(FULL)']).status, 0);
      await delay(500);
    }
    assert.deepEqual(await numbers(store).list(), [
      ['m', 2],
      ['n', 1],
      ['o', 2],
    ]);
    assert.deepEqual(notices, []);
    assert.equal(store.failure, undefined);
  });

  it('writes nothing while its file is gone, and goes on when it is back', async () => {
    const file = newFile();
    const notices: string[] = [];
    const store = await open(file, notices);
    await numbers(store).put('n', 1);
    renameSync(file, `${file}.away`);
    await until(() => store.failure !== undefined);
    assert.match(store.failure!, /removed/);
    await assert.rejects(numbers(store).put('n', 2), { code: 'STORE_UNAVAILABLE' });
    assert.equal(await numbers(store).get('n'), 1);
    assert.ok(!existsSync(file));
    renameSync(`${file}.away`, file);
    await until(() => store.failure === undefined);
    await numbers(store).put('n', 3);
    assert.equal(await numbers(store).get('n'), 3);
    assert.match(notices.join('\n'), /was removed(.|\n)*is back/);
  });

  it('is opened again when its folder was replaced, and reports a file that it cannot use', async () => {
    const file = newFile();
    const store = await open(file);
    await numbers(store).put('n', 1);
    const parent = join(file, '..');
    renameSync(parent, `${parent}.old`);
    mkdirSync(parent);
    writeFileSync(file, 'a letter to a friend '.repeat(500), { mode: 0o600 });
    await until(() => store.failure !== undefined);
    await assert.rejects(numbers(store).put('n', 2), { code: 'STORE_UNAVAILABLE' });
    rmSync(parent, { recursive: true });
    renameSync(`${parent}.old`, parent);
    await until(() => store.failure === undefined);
    assert.equal(await numbers(store).get('n'), 1);
  });

  for (const suffix of ['-wal', '-shm'])
    it(`keeps what was written when its ${suffix} file is removed`, async () => {
      const file = newFile();
      const notices: string[] = [];
      const store = await open(file, notices);
      await numbers(store).put('n', 1);
      await delay(1100);
      rmSync(`${file}${suffix}`);
      await until(() => notices.length > 0);
      assert.equal(await numbers(store).get('n'), 1);
      await numbers(store).put('m', 2);
      await store.close();
      const again = await open(file);
      assert.deepEqual(await numbers(again).list(), [
        ['m', 2],
        ['n', 1],
      ]);
    });

  it('hears after a replacement what other processes write into the new file', async () => {
    const file = newFile();
    const store = await open(file);
    const revocations = await openRevocations(store);
    const copy = `${file}.copy`;
    await store.close();
    copyFileSync(file, copy);
    chmodSync(copy, 0o600);
    const running = await open(file);
    const list = await openRevocations(running);
    renameSync(copy, file);
    await delay(500);
    const other = await open(file);
    await (await openRevocations(other)).revoke({ kind: 'token', tokenId: 't1' }, 'by the other');
    const about = { issuer: 'i', subject: 's', tokenId: 't1', issuedAt: new Date() };
    await until(() => list.isRevoked(about));
    revocations.close();
  });
});
