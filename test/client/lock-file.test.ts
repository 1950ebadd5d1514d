import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { LockFile } from '../../client/lock-file.ts';
import { own } from '../e2e/support/process.ts';
import { temporaryDirectory } from './support.ts';

const never = 3_600_000;

/** The number of a process that has ended. */
function deadPid(): number {
  return spawnSync(process.execPath, ['--version']).pid;
}

describe('LockFile', () => {
  it('is had by one at a time', (t) => {
    const path = join(temporaryDirectory(t), 'a', 'lock');
    const [first, second] = [new LockFile(path, never), new LockFile(path, never)];
    assert.equal(first.look(), 'free');
    assert.equal(first.take(), true);
    assert.equal(second.take(), false);
    assert.equal(second.look(), 'held');
    second.release();
    assert.equal(second.take(), false);
    first.release();
    assert.equal(second.take(), true);
    first.release();
    assert.equal(first.take(), false);
  });

  for (const [what, holder] of [
    ['has ended', { host: hostname(), pid: deadPid() }],
    ['has ended, and its number belongs to another', { host: hostname(), pid: process.pid, started: '1' }],
  ] as const) {
    it(`is abandoned when its holder ${what}`, (t) => {
      const path = join(temporaryDirectory(t), 'lock');
      writeFileSync(path, JSON.stringify(holder));
      const lock = new LockFile(path, never);
      assert.equal(lock.look(), 'abandoned');
      lock.clear();
      assert.equal(lock.take(), true);
    });
  }

  for (const [what, text] of [
    ['another machine', JSON.stringify({ host: 'elsewhere', pid: deadPid() })],
    ['nobody knows whom', 'x'],
  ] as const) {
    it(`is waited for in patience when it belongs to ${what}`, (t) => {
      const path = join(temporaryDirectory(t), 'lock');
      writeFileSync(path, text);
      const patient = new LockFile(path, never);
      assert.equal(patient.look(), 'held');
      assert.equal(patient.look(), 'held');
      const impatient = new LockFile(path, 0);
      assert.equal(impatient.look(), 'abandoned');
    });
  }

  it('that its maker never wrote into is abandoned within a second', async (t) => {
    const path = join(temporaryDirectory(t), 'lock');
    writeFileSync(path, '');
    const lock = new LockFile(path, never);
    const began = performance.now();
    await lock.acquire(AbortSignal.timeout(5000));
    assert.ok(performance.now() - began < 1500);
  });

  it('is not cleared when it belongs to another by now', (t) => {
    const path = join(temporaryDirectory(t), 'lock');
    writeFileSync(path, JSON.stringify({ host: hostname(), pid: deadPid() }));
    const [late, early] = [new LockFile(path, never), new LockFile(path, never)];
    assert.deepEqual([late.look(), early.look()], ['abandoned', 'abandoned']);
    early.clear();
    assert.equal(early.take(), true);
    late.clear();
    assert.ok(existsSync(path));
    assert.equal(late.take(), false);
  });

  it('does not wait for ever', async (t) => {
    const path = join(temporaryDirectory(t), 'lock');
    new LockFile(path, never).take();
    await assert.rejects(new LockFile(path, never).acquire(AbortSignal.timeout(150)), {
      name: 'TimeoutError',
    });
  });

  it('keeps many processes apart, also when one dies with it', async (t) => {
    const directory = temporaryDirectory(t);
    const [path, counter] = [join(directory, 'lock'), join(directory, 'counter')];
    writeFileSync(counter, '0');
    writeFileSync(path, JSON.stringify({ host: hostname(), pid: deadPid() }));
    // Reads, waits a turn of the loop, writes: two at once would lose a step.
    const script = `
      import { readFileSync, writeFileSync } from 'node:fs';
      import { LockFile } from ${JSON.stringify(join(import.meta.dirname, '../../client/lock-file.ts'))};
      const lock = new LockFile(${JSON.stringify(path)}, ${never});
      for (let round = 0; round < 5; round++) {
        await lock.acquire(AbortSignal.timeout(30000));
        const count = Number(readFileSync(${JSON.stringify(counter)}, 'utf8'));
        await new Promise((resolve) => setTimeout(resolve, 1));
        writeFileSync(${JSON.stringify(counter)}, String(count + 1));
        if (round === 4 && process.argv[1] === 'dies') process.kill(process.pid, 'SIGKILL');
        lock.release();
      }`;
    const children = Array.from({ length: 6 }, (_, index) =>
      own(
        spawn(
          process.execPath,
          ['--input-type=module-typescript', '-e', script, index < 2 ? 'dies' : 'lives'],
          {
            stdio: ['ignore', 'ignore', 'inherit'],
          },
        ),
      ),
    );
    await Promise.all(children.map((child) => once(child, 'close')));
    assert.equal(readFileSync(counter, 'utf8'), '30');
  });
});
