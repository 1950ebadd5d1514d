import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { appendFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { AuditFile } from '../../../server/audit/audit-file.ts';
import { AuditLog } from '../../../server/audit/audit-log.ts';
import { ChainVerifier } from '../../../server/audit/verify-chain.ts';
import type { ChainFinding } from '../../../server/audit/verify-chain.ts';

const execute = promisify(execFile);
const isRoot = process.getuid?.() === 0;

async function* linesOf(...files: string[]): AsyncGenerator<string> {
  for (const file of files) yield* (await readFile(file, 'utf8')).trim().split('\n');
}

async function findingsOf(...files: string[]): Promise<readonly ChainFinding[]> {
  const chain = new ChainVerifier();
  for (const file of files) await chain.add(file, createReadStream(file));
  chain.end();
  return chain.findings;
}

async function problemsOf(...files: string[]): Promise<(number | undefined)[]> {
  return (await findingsOf(...files)).filter(({ isBroken }) => isBroken).map(({ line }) => line);
}

describe('the audit log', () => {
  let folder: string;
  let count = 0;
  before(async () => (folder = await mkdtemp(join(tmpdir(), 'postern-audit-'))));
  after(() => rm(folder, { recursive: true }));

  async function newLog(): Promise<{ file: string; log: AuditLog }> {
    const file = join(folder, `audit-${count++}.jsonl`);
    const log = new AuditLog(new AuditFile(file));
    await log.start();
    return { file, log };
  }

  it('has a record on the disk when append resolves', async () => {
    const { file, log } = await newLog();
    await log.append({ event: 'open', session: 'a' });
    const record = JSON.parse((await readFile(file, 'utf8')).trim()) as object;
    assert.deepEqual(record, { seq: 1, prev: '', event: 'open', session: 'a' });
    await log.close();
  });

  it('chains its lines, over a restart too', async () => {
    const { file, log } = await newLog();
    await Promise.all(Array.from({ length: 50 }, (_, at) => log.append({ at })));
    await log.close();
    const again = new AuditLog(new AuditFile(file));
    await again.start();
    await again.append({ at: 50 });
    await again.close();
    assert.deepEqual(await problemsOf(file), []);
    const seqs = (await Array.fromAsync(linesOf(file))).map(
      (line) => (JSON.parse(line) as { seq: number }).seq,
    );
    assert.deepEqual(
      seqs,
      Array.from({ length: 51 }, (_, at) => at + 1),
    );
  });

  it('shows a line that was changed, taken out, or moved', async () => {
    const { file, log } = await newLog();
    for (let at = 0; at < 5; at++) await log.append({ at });
    await log.close();
    const lines = (await readFile(file, 'utf8')).trim().split('\n');
    const changed = lines.with(1, lines[1]!.replace('"at":1', '"at":9'));
    const missing = lines.toSpliced(2, 1);
    const moved = [lines[0]!, lines[2]!, lines[1]!, lines[3]!, lines[4]!];
    for (const [version, problems] of [
      [changed, [2]],
      [missing, [3]],
      [moved, [2, 3, 4]],
    ] as const) {
      await writeFile(file, `${version.join('\n')}\n`);
      assert.deepEqual(await problemsOf(file), problems);
    }
  });

  it('goes on after a line that a crash cut off, with the next number, and records that', async () => {
    const { file, log } = await newLog();
    await log.append({ at: 0 });
    await log.close();
    await appendFile(file, '{"seq":2,"prev":"x","at');
    const again = new AuditLog(new AuditFile(file));
    await again.start();
    await again.append({ at: 1 });
    await again.close();
    const [torn] = await findingsOf(file);
    assert.deepEqual(torn, {
      file,
      line: 2,
      why: 'line 2 was cut off by a crash, as line 3 records',
      isBroken: false,
    });
    const [, , note, next] = (await readFile(file, 'utf8')).trim().split('\n');
    const { seq, what, text } = JSON.parse(note!) as Record<string, unknown>;
    assert.deepEqual({ seq, what, text }, { seq: 2, what: 'torn', text: '{"seq":2,"prev":"x","at' });
    assert.equal((JSON.parse(next!) as { seq: number }).seq, 3);
  });

  it('goes on in a new file after rotation, in the same chain', async () => {
    const { file, log } = await newLog();
    await log.append({ at: 0 });
    await rename(file, `${file}.1`);
    log.reopen();
    await log.append({ at: 1 });
    await log.close();
    assert.deepEqual(await problemsOf(`${file}.1`, file), []);
    assert.equal((await Array.fromAsync(linesOf(file))).length, 1);
  });

  it('is one chain when several write it, over a rotation that only one of them was told of', async () => {
    const file = join(folder, 'shared.jsonl');
    const logs = Array.from({ length: 3 }, () => new AuditLog(new AuditFile(file)));
    for (const log of logs) await log.start();
    const writeAll = (): Promise<unknown> =>
      Promise.all(Array.from({ length: 60 }, (_, at) => logs[at % 3]!.append({ at })));
    await writeAll();
    await rename(file, `${file}.1`);
    await logs[1]!.append({ stillIn: 'the old file' });
    logs[0]!.reopen();
    await logs[0]!.append({ firstIn: 'the new file' });
    await writeAll();
    for (const log of logs) await log.close();
    assert.deepEqual(await problemsOf(`${file}.1`, file), []);
    assert.equal((await Array.fromAsync(linesOf(`${file}.1`))).length, 61);
    assert.equal((await Array.fromAsync(linesOf(file))).length, 61);
  });

  it('writes printable ASCII only, one line for each record', async () => {
    const { file, log } = await newLog();
    const hostile = ['a\nb', '\u001b[31m', '\u009b31m', '\u2028', '\u202e', '\ud800', '"}\n{"'];
    for (const text of hostile) await log.append({ text });
    await log.close();
    const bytes = await readFile(file, 'latin1');
    assert.match(bytes, /^[\x20-\x7e\n]*$/);
    const back = bytes
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { text: string }).text);
    assert.deepEqual(back, hostile);
  });

  it('refuses to start where it cannot write', async () => {
    await assert.rejects(new AuditLog(new AuditFile(join(folder, 'missing', 'audit.jsonl'))).start(), {
      code: 'ENOENT',
    });
  });

  it('says no while the device is full', async () => {
    const states: (Error | undefined)[] = [];
    const log = new AuditLog(new AuditFile('/dev/full'), { onState: (failure) => states.push(failure) });
    await log.start();
    await assert.rejects(log.append({ at: 0 }), { code: 'ENOSPC' });
    await assert.rejects(log.append({ at: 1 }), { code: 'ENOSPC' });
    assert.equal(states.length, 1);
    assert.equal((log.failure as NodeJS.ErrnoException).code, 'ENOSPC');
    await log.close();
  });

  it(
    'keeps what may wait while a disk is full, and writes all of it when there is room',
    { skip: !isRoot && 'needs root to mount a small tmpfs' },
    async () => {
      const disk = join(folder, 'small');
      await execute('mkdir', [disk]);
      await execute('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]);
      try {
        const file = join(disk, 'audit.jsonl');
        const filler = join(disk, 'filler');
        const recovered = Promise.withResolvers<void>();
        const log = new AuditLog(new AuditFile(file), {
          onState: (failure) => failure ?? recovered.resolve(),
        });
        await log.start();
        await log.append({ event: 'before' });
        await writeFile(filler, Buffer.alloc(64 * 1024)).catch(() => {});
        await assert.rejects(log.append({ event: 'refused', text: 'x'.repeat(8000) }), { code: 'ENOSPC' });
        for (let at = 0; at < 20; at++) log.appendEventually({ event: 'end', at, text: 'x'.repeat(500) });
        await rm(filler);
        await recovered.promise;
        await log.close();
        const events = (await Array.fromAsync(linesOf(file))).map((line) => {
          try {
            return (JSON.parse(line) as { event: string }).event;
          } catch {
            return 'cut off';
          }
        });
        assert.equal(events.filter((event) => event === 'end').length, 20);
        assert.equal(events.filter((event) => event === 'refused').length, 0);
        assert.ok((await problemsOf(file)).length <= events.filter((event) => event === 'cut off').length);
      } finally {
        await execute('umount', [disk]);
      }
    },
  );

  it('counts what it has to give up', async () => {
    let lost = 0;
    const log = new AuditLog(new AuditFile('/dev/full'), { onLost: (more) => (lost += more) });
    await log.start();
    for (let at = 0; at < 10_500; at++) log.appendEventually({ at });
    await log.append({}).catch(() => {});
    assert.equal(lost, 500);
    await log.close();
    assert.equal(lost, 10_500);
  });
});
