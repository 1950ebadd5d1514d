import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { AuditFile } from '../../../server/audit/audit-file.ts';
import { AuditLog } from '../../../server/audit/audit-log.ts';
import { ChainVerifier } from '../../../server/audit/verify-chain.ts';

const root = mkdtempSync(join(tmpdir(), 'postern-audit-file-'));
after(() => rmSync(root, { recursive: true, force: true }));

interface Opened {
  readonly path: string;
  readonly file: AuditFile;
  /** What was said of the file from outside, in order. */
  readonly changes: string[];
}

async function opened(path = join(mkdtempSync(join(root, 'a-')), 'folder', 'audit.jsonl')): Promise<Opened> {
  mkdirSync(dirname(path), { recursive: true });
  const changes: string[] = [];
  const file = new AuditFile(path, { onChange: ({ how }) => changes.push(how) });
  await file.open();
  return { path, file, changes };
}

function recordsOf(path: string): Record<string, unknown>[] {
  const lines = readFileSync(path, 'latin1').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

const seqsOf = (path: string): unknown[] => recordsOf(path).map(({ seq }) => seq);

async function verified(...files: string[]): Promise<ChainVerifier> {
  const chain = new ChainVerifier();
  for (const file of files) await chain.add(file, createReadStream(file));
  chain.end();
  return chain;
}

/** After some readings the clock is ahead: what has just begun to wait has begun before that. */
function advance(t: TestContext, ms: number, after = 2): void {
  const now = performance.now.bind(performance);
  let readings = 0;
  t.mock.method(performance, 'now', () => now() + (readings++ < after ? 0 : ms));
}

describe('the audit file', () => {
  it('is made anew when it was removed, before the next record counts as written', async () => {
    const { path, file, changes } = await opened();
    await file.append([{ at: 1 }]);
    rmSync(path);
    await file.append([{ at: 2 }]);
    assert.deepEqual(changes, ['removed']);
    const [note, record] = recordsOf(path);
    assert.deepEqual(
      [note!['event'], note!['what'], note!['after'], record!['at']],
      ['audit', 'removed', 1, 2],
    );
    assert.deepEqual(seqsOf(path), [2, 3]);
    await file.close();
  });

  it('is made anew with its folder, and its lock, when that was removed', async () => {
    const { path, file, changes } = await opened();
    await file.append([{ at: 1 }]);
    rmSync(dirname(path), { recursive: true });
    await file.append([{ at: 2 }]);
    assert.deepEqual(changes, ['removed']);
    assert.deepEqual(seqsOf(path), [2, 3]);
    assert.equal(statSync(dirname(path)).mode & 0o777, 0o700);
    await file.close();
    assert.deepEqual(readdirSync(dirname(path)).toSorted(), [
      '.audit.jsonl.head',
      '.audit.jsonl.lock',
      'audit.jsonl',
    ]);
  });

  it('is found to be displaced without a record, and continued when it is looked after', async () => {
    const { path, file } = await opened();
    assert.equal(file.isDisplaced, false);
    rmSync(path);
    assert.equal(file.isDisplaced, true);
    await file.append([]);
    assert.equal(file.isDisplaced, false);
    assert.equal(existsSync(path), true);
    await file.close();
  });

  it('goes on in the file that was moved away, for the time that rotation takes', async () => {
    const { path, file, changes } = await opened();
    await file.append([{ at: 1 }]);
    renameSync(path, `${path}.1`);
    await file.append([{ at: 2 }]);
    file.reopen();
    await file.append([{ at: 3 }]);
    assert.deepEqual([seqsOf(`${path}.1`), seqsOf(path), changes], [[1, 2], [3], []]);
    assert.equal((await verified(`${path}.1`, path)).isIntact, true);
    await file.close();
  });

  it('starts a new file and warns when no signal follows a move', async (t) => {
    const { path, file, changes } = await opened();
    await file.append([{ at: 1 }]);
    renameSync(path, `${path}.1`);
    await file.append([{ at: 2 }]);
    advance(t, 11_000, 0);
    await file.append([{ at: 3 }]);
    assert.deepEqual(changes, ['moved']);
    assert.deepEqual(
      [seqsOf(`${path}.1`), seqsOf(path)],
      [
        [1, 2],
        [3, 4],
      ],
    );
    assert.equal((await verified(`${path}.1`, path)).isIntact, true);
    await file.close();
  });

  it('continues in an empty file that rotation has put there', async () => {
    const { path, file, changes } = await opened();
    await file.append([{ at: 1 }]);
    renameSync(path, `${path}.1`);
    writeFileSync(path, '', { mode: 0o600 });
    await file.append([{ at: 2 }]);
    assert.deepEqual([seqsOf(path), changes], [[2], []]);
    await file.close();
  });

  it('says that another file was put in its place', async () => {
    const { path, file, changes } = await opened();
    await file.append([{ at: 1 }]);
    const copy = `${path}.copy`;
    copyFileSync(path, copy);
    await file.append([{ at: 2 }]);
    renameSync(copy, path);
    await file.append([{ at: 3 }]);
    assert.deepEqual(changes, ['replaced', 'gap']);
    assert.deepEqual(
      recordsOf(path).map(({ seq, what, at }) => [seq, what ?? at]),
      [
        [1, 1],
        [3, 'gap'],
        [4, 'replaced'],
        [5, 3],
      ],
    );
    const { findings } = await verified(path);
    assert.deepEqual(
      findings.map(({ why }) => why),
      ['record no. 2 is missing before line 2, as the gateway found itself'],
    );
    await file.close();
  });

  it('continues its numbers in a file that was truncated, as by copytruncate', async () => {
    const { path, file, changes } = await opened();
    await file.append([{ at: 1 }, { at: 2 }]);
    copyFileSync(path, `${path}.1`);
    truncateSync(path);
    await file.append([{ at: 3 }]);
    assert.deepEqual([changes, seqsOf(path)], [['truncated'], [3, 4]]);
    assert.equal((await verified(`${path}.1`, path)).isIntact, true);
    await file.close();
  });

  it('follows a link that was put in its place', async () => {
    const { path, file, changes } = await opened();
    await file.append([{ at: 1 }]);
    const elsewhere = `${path}.elsewhere`;
    rmSync(path);
    symlinkSync(elsewhere, path);
    await file.append([{ at: 2 }]);
    assert.deepEqual(changes, ['removed']);
    assert.deepEqual(seqsOf(elsewhere), [2, 3]);
    await file.append([{ at: 3 }]);
    assert.deepEqual(seqsOf(elsewhere), [2, 3, 4]);
    await file.close();
  });

  it('refuses what is no file, and goes on when there is one again', async () => {
    const { path, file } = await opened();
    for (const make of [
      () => mkdirSync(path),
      () => execFileSync('mkfifo', [path]),
      () => symlinkSync(dirname(path), path),
    ]) {
      rmSync(path, { recursive: true });
      make();
      await assert.rejects(file.append([{ at: 'lost' }]));
      rmSync(path, { recursive: true });
      await file.append([{ at: 'written' }]);
      assert.equal(recordsOf(path).at(-1)!['at'], 'written');
    }
    await file.close();
  });

  it('continues the chain after a restart, when the file was moved away meanwhile', async () => {
    const { path, file } = await opened();
    await file.append([{ at: 1 }]);
    await file.close();
    renameSync(path, `${path}.1`);
    const again = await opened(path);
    await again.file.append([{ at: 2 }]);
    assert.deepEqual([seqsOf(path), again.changes], [[2], []]);
    assert.equal((await verified(`${path}.1`, path)).isIntact, true);
    await again.file.close();
  });

  for (const [what, rest] of [
    ['half a line', '{"seq":3,"prev":"abc","eve'],
    ['what is not text', Buffer.from([0xff, 0x00, 0xfe, 0x0d])],
    ['zeros, as after a power failure', Buffer.alloc(5000)],
    ['lines that are no records', 'x\n\ny\n'],
    ['more than is read at once', `${'z'.repeat(70_000)}\n${'z'.repeat(70_000)}`],
  ] as const) {
    it(`goes on from the last whole record after ${what}`, async () => {
      const { path, file } = await opened();
      await file.append([{ at: 1 }, { at: 2 }]);
      await file.close();
      appendFileSync(path, rest);
      const again = await opened(path);
      await again.file.append([{ at: 3 }]);
      await again.file.close();
      assert.deepEqual(again.changes, ['torn']);
      const { isIntact, findings, summaries } = await verified(path);
      assert.equal(isIntact, true, JSON.stringify(findings));
      assert.match(findings[0]!.why, /^line 3 was cut off by a crash, as line \d records$/);
      assert.deepEqual([summaries[0]!.records, summaries[0]!.last!.seq], [4, 4]);
      assert.equal(readFileSync(path).includes(rest), true);
    });
  }

  it('is refused to a second gateway with another store, as long as the first one runs', async () => {
    const path = join(mkdtempSync(join(root, 'a-')), 'audit.jsonl');
    const [one, other, same] = ['one', 'other', 'one'].map((store) => new AuditFile(path, { store }));
    await one!.open();
    await assert.rejects(other!.open(), /belongs to the running gateway with the store .*\/one/);
    await same!.open();
    await one!.close();
    await assert.rejects(other!.open());
    await same!.close();
    await other!.open();
    await other!.append([{ at: 1 }]);
    await other!.close();
  });

  it('belongs to its gateway whatever the path of the store is', async () => {
    for (const store of ['/srv/Zürich/postern.db', '/srv/東京 1/postern.db', '/srv/a  b/x.db']) {
      const path = join(mkdtempSync(join(root, 'a-')), 'audit.jsonl');
      const file = new AuditFile(path, { store });
      await file.open();
      const neighbour = new AuditFile(path, { store });
      await neighbour.open();
      await neighbour.append([{ at: 1 }]);
      await neighbour.close();
      await file.close();
    }
  });

  it('does not wait for ever for a process that was stopped while it has the lock; there is no gap', async (t) => {
    const { path, file } = await opened();
    const source = `
      const { FileLock } = await import(${JSON.stringify(new URL('../../../server/store/file-lock.ts', import.meta.url))});
      globalThis.release = new FileLock(${JSON.stringify(join(dirname(path), '.audit.jsonl.lock'))}).tryAcquire();
      console.log('taken');
      setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', source], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    holder.kill('SIGSTOP');
    const states: string[] = [];
    const recovered = Promise.withResolvers<void>();
    const log = new AuditLog(file, {
      onState: (failure) => (failure ? states.push(failure.message) : recovered.resolve()),
    });
    log.appendEventually({ event: 'end' });
    advance(t, 6000);
    await assert.rejects(log.append({ event: 'open' }), /another process has held the lock/);
    assert.equal(states.length, 1);
    holder.kill('SIGKILL');
    await recovered.promise;
    await log.close();
    assert.deepEqual(
      recordsOf(path).map(({ event, what }) => what ?? event),
      ['continued', 'end'],
    );
  });

  it('writes what another process has not written before it died, and nothing twice', async () => {
    const { path, file } = await opened();
    const records = Array.from({ length: 5 }, (_, at) => ({ event: 'end', session: `é${at}` }));
    await file.append(records.slice(0, 3));
    await file.appendMissing(records);
    await file.appendMissing(records);
    assert.deepEqual(
      recordsOf(path).map(({ session }) => session),
      ['é0', 'é1', 'é2', 'é3', 'é4'],
    );
    await file.close();
  });

  it('can be read by a group, and by nobody else', async () => {
    const { path, file } = await opened();
    await file.close();
    for (const [before, after] of [
      [0o600, 0o600],
      [0o640, 0o640],
      [0o666, 0o640],
      [0o604, 0o600],
    ] as const) {
      chmodSync(path, before);
      const again = await opened(path);
      assert.equal(statSync(path).mode & 0o777, after);
      assert.deepEqual(again.changes, before === after ? [] : ['tightened']);
      await again.file.close();
    }
  });

  it('makes a lock private that others could open, and says so', async () => {
    const { path, file } = await opened();
    await file.close();
    const lock = join(dirname(path), '.audit.jsonl.lock');
    chmodSync(lock, 0o644);
    const again = await opened(path);
    assert.deepEqual([again.changes, statSync(lock).mode & 0o777], [['tightened'], 0o600]);
    await again.file.close();
  });
});

describe('the queue of the audit', () => {
  it('keeps the end of a tunnel, however many strangers are refused while the disk is full', async () => {
    const path = join(mkdtempSync(join(root, 'a-')), 'audit.jsonl');
    const file = new AuditFile(path);
    let isFull = true;
    let lost = 0;
    const log = new AuditLog(
      {
        open: () => file.open(),
        append: (records) => (isFull ? Promise.reject(new Error('full')) : file.append(records)),
        isDisplaced: false,
        reopen: () => file.reopen(),
        close: () => file.close(),
      },
      { onLost: (count) => (lost += count) },
    );
    await log.start();
    for (let at = 0; at < 6000; at++) log.appendEventually({ event: 'refuse', at }, 'stranger');
    log.appendEventually({ event: 'end' });
    for (let at = 0; at < 6000; at++) log.appendEventually({ event: 'refuse', at }, 'stranger');
    await assert.rejects(log.append({ event: 'open' }), /full/);
    isFull = false;
    while (log.failure) await delay(20);
    await log.close();
    const events = recordsOf(path);
    assert.equal(events.filter(({ event }) => event === 'end').length, 1);
    assert.equal(events.filter(({ event }) => event === 'refuse').length, 1000);
    assert.equal(lost, 11_000);
    assert.deepEqual([events[0]!['what'], events[0]!['lost']], ['continued', 11_000]);
    assert.equal((await verified(path)).isIntact, true);
  });

  it('refuses a tunnel when the disk does not answer, says so, and goes on when it does', async (t) => {
    const gate = Promise.withResolvers<void>();
    const written: unknown[] = [];
    const log = new AuditLog({
      open: async () => {},
      append: async (records) => {
        await gate.promise;
        written.push(...records);
      },
      isDisplaced: false,
      reopen() {},
      close: async () => {},
    });
    await log.start();
    const first = log.append({ at: 1 });
    advance(t, 11_000);
    await assert.rejects(first, /taken more than 10 seconds/);
    assert.match(String(log.failure), /10 seconds/);
    gate.resolve();
    await log.append({ at: 2 });
    assert.equal(log.failure, undefined);
    await log.close();
  });
});
