import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { FileLock } from '../../../server/store/file-lock.ts';

describe('a file lock', () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-lock-'));
  const file = join(folder, 'lock');
  after(() => rmSync(folder, { recursive: true }));

  it('has one holder at a time; a waiting caller gets it next, or fails when that takes too long', async () => {
    const [one, other] = [new FileLock(file), new FileLock(file)];
    const release = await one.acquire(0);
    await assert.rejects(other.acquire(20), /another process/);
    const waiting = other.acquire(10_000);
    release();
    (await waiting)();
    one.close();
    other.close();
  });

  it('is free when the process that held it was killed', async () => {
    const source = `
      import { FileLock } from ${JSON.stringify(new URL('../../../server/store/file-lock.ts', import.meta.url))};
      await new FileLock(${JSON.stringify(file)}).acquire(0);
      console.log('taken');
      setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', source], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    const lock = new FileLock(file);
    await assert.rejects(lock.acquire(0));
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    (await lock.acquire(0))();
    lock.close();
  });
});
