import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { LockFile } from '../../../client/os/lock-file.ts';
import { own } from '../../e2e/support/process.ts';
import { temporaryDirectory } from '../support.ts';

const never = 3_600_000;
const module = JSON.stringify(join(import.meta.dirname, '../../../client/os/lock-file.ts'));

/** The number of a process that has ended. */
function deadPid(): number {
  return spawnSync(process.execPath, ['--version']).pid;
}

function runScript(script: string, ...args: string[]) {
  const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module-typescript', '-e', script];
  return own(spawn(process.execPath, [...flags, ...args], { stdio: ['ignore', 'pipe', 'inherit'] }));
}

describe('LockFile', () => {
  it('is had by one at a time, and leaves nothing', (t) => {
    const directory = temporaryDirectory(t);
    const path = join(directory, 'a', 'lock');
    const [first, second] = [new LockFile(path, never), new LockFile(path, never)];
    assert.equal(first.take(), true);
    assert.equal(second.take(), false);
    second.release();
    assert.equal(second.take(), false);
    first.release();
    assert.equal(second.take(), true);
    first.release();
    assert.equal(first.take(), false);
    second.release();
    assert.deepEqual([first.tookOver, second.tookOver], [false, false]);
    assert.deepEqual(readdirSync(join(directory, 'a')), []);
  });

  it('is whole from the first moment, for this user only', (t) => {
    const path = join(temporaryDirectory(t), 'lock');
    new LockFile(path, never).take();
    const { host, pid } = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    assert.deepEqual([host, pid], [hostname(), process.pid]);
  });

  for (const [what, holder] of [
    ['has ended', { host: hostname(), pid: deadPid() }],
    ['has ended, and its number belongs to another', { host: hostname(), pid: process.pid, started: '1' }],
  ] as const) {
    it(`is taken over when its holder ${what}`, (t) => {
      const directory = temporaryDirectory(t);
      const path = join(directory, 'lock');
      writeFileSync(path, JSON.stringify(holder));
      const [lock, other] = [new LockFile(path, never), new LockFile(path, never)];
      assert.equal(lock.take(), true);
      assert.equal(lock.tookOver, true);
      assert.equal(other.take(), false);
      lock.release();
      assert.deepEqual(readdirSync(directory), []);
      assert.equal(other.take(), true);
      assert.equal(other.tookOver, false);
    });
  }

  it(
    'is taken over from a process that was killed, before its parent takes notice',
    { skip: existsSync('/proc/self/stat') ? false : 'there is no /proc here' },
    async (t) => {
      const path = join(temporaryDirectory(t), 'lock');
      // `sleep` is the parent, and never asks how its children are.
      const script = `import { LockFile } from ${module};
        new LockFile(process.argv[2], ${never}).take();
        console.log('taken');
        process.kill(process.pid, 'SIGKILL');`;
      const file = join(temporaryDirectory(t), 'script.ts');
      writeFileSync(file, script);
      const parent = own(
        spawn('sh', ['-c', '"$0" "$1" "$2" & exec sleep 60', process.execPath, file, path], {
          stdio: ['ignore', 'pipe', 'inherit'],
        }),
      );
      t.after(() => parent.kill('SIGKILL'));
      const lock = new LockFile(path, never);
      await once(parent.stdout, 'data');
      await lock.acquire(AbortSignal.timeout(20_000));
      assert.equal(lock.tookOver, true);
    },
  );

  it('passes on through any number of holders that die', (t) => {
    const directory = temporaryDirectory(t);
    const path = join(directory, 'lock');
    const script = `import { LockFile } from ${module};
      if (!new LockFile(process.argv[1], ${never}).take()) process.exit(1);
      process.kill(process.pid, 'SIGKILL');`;
    const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module-typescript', '-e', script];
    for (let index = 0; index < 3; index++)
      assert.equal(spawnSync(process.execPath, [...flags, path]).signal, 'SIGKILL');
    assert.deepEqual(readdirSync(directory).toSorted(), ['lock', 'lock.2', 'lock.3']);
    const lock = new LockFile(path, never);
    assert.equal(lock.take(), true);
    lock.release();
    assert.deepEqual(readdirSync(directory), []);
  });

  for (const [what, text] of [
    ['another machine', JSON.stringify({ host: 'elsewhere', pid: deadPid() })],
    ['nobody knows whom', 'x'],
  ] as const) {
    it(`is waited for in patience when it belongs to ${what}`, (t) => {
      const path = join(temporaryDirectory(t), 'lock');
      writeFileSync(path, text);
      const patient = new LockFile(path, never);
      assert.equal(patient.take(), false);
      assert.equal(patient.take(), false);
      const impatient = new LockFile(path, 0);
      assert.equal(impatient.take(), true);
    });
  }

  it('that is empty, as where there are no hard links, is abandoned within a second', async (t) => {
    const path = join(temporaryDirectory(t), 'lock');
    writeFileSync(path, '');
    const lock = new LockFile(path, never);
    assert.equal(lock.take(), false);
    await lock.acquire(AbortSignal.timeout(5000));
  });

  it('is not given back when it belongs to another by now', (t) => {
    const path = join(temporaryDirectory(t), 'lock');
    const [former, next] = [new LockFile(path, never), new LockFile(path, never)];
    assert.equal(former.take(), true);
    // As an operator does it, or a holder on another machine that ran out of patience.
    rmSync(path);
    assert.equal(next.take(), true);
    former.release();
    assert.equal(new LockFile(path, never).take(), false);
    next.release();
    assert.equal(new LockFile(path, never).take(), true);
  });

  it(
    'is not taken from a holder that is alive, however long it is slow or stopped',
    { skip: existsSync('/proc/self/stat') ? false : 'there is no /proc here' },
    async (t) => {
      const path = join(temporaryDirectory(t), 'lock');
      const holder = runScript(
        `import { LockFile } from ${module};
        new LockFile(process.argv[1], 0).take();
        console.log('taken');
        setInterval(() => {}, 1e9);`,
        path,
      );
      t.after(() => holder.kill('SIGKILL'));
      await once(holder.stdout, 'data');
      holder.kill('SIGSTOP');
      const impatient = new LockFile(path, 0);
      assert.equal(impatient.take(), false);
      holder.kill('SIGKILL');
      await once(holder, 'exit');
      assert.deepEqual([impatient.take(), impatient.tookOver], [true, true]);
    },
  );

  it('is not had by one who began to take over before others did, and ended', (t) => {
    const path = join(temporaryDirectory(t), 'lock');
    writeFileSync(path, JSON.stringify({ host: hostname(), pid: deadPid() }));
    const early = new LockFile(path, never);
    assert.equal(early.take(), true);
    // As the late one leaves it, which saw the dead holder and was stopped until now.
    rmSync(path);
    const late = new LockFile(path, never);
    assert.equal(late.take(), false);
    early.release();
    assert.equal(late.take(), true);
  });

  it('takes away what was left of making one, and nothing of the living', (t) => {
    const directory = temporaryDirectory(t);
    const path = join(directory, 'lock');
    const living = `lock.${process.pid}.0123abcd.tmp`;
    for (const name of [living, `lock.${deadPid()}.0123abcd.tmp`, 'lock.other'])
      writeFileSync(join(directory, name), '');
    const lock = new LockFile(path, never);
    lock.take();
    lock.release();
    assert.deepEqual(readdirSync(directory).toSorted(), [living, 'lock.other'].toSorted());
  });

  it('does not wait for ever', async (t) => {
    const path = join(temporaryDirectory(t), 'lock');
    new LockFile(path, never).take();
    await assert.rejects(new LockFile(path, never).acquire(AbortSignal.timeout(150)), {
      name: 'TimeoutError',
    });
  });

  it('keeps many processes apart, also when some die with it', async (t) => {
    const directory = temporaryDirectory(t);
    const [path, counter] = [join(directory, 'lock'), join(directory, 'counter')];
    writeFileSync(counter, '0');
    writeFileSync(path, JSON.stringify({ host: hostname(), pid: deadPid() }));
    // Reads, waits a turn of the loop, writes: two at once would lose a step.
    const script = `
      import { readFileSync, writeFileSync } from 'node:fs';
      import { LockFile } from ${module};
      const lock = new LockFile(${JSON.stringify(path)}, ${never});
      for (let round = 0; round < 5; round++) {
        await lock.acquire(AbortSignal.timeout(60000));
        const count = Number(readFileSync(${JSON.stringify(counter)}, 'utf8'));
        await new Promise((resolve) => setTimeout(resolve, 1));
        writeFileSync(${JSON.stringify(counter)}, String(count + 1));
        if (round === 4 && process.argv[1] === 'dies') process.kill(process.pid, 'SIGKILL');
        lock.release();
      }`;
    const children = Array.from({ length: 6 }, (_, index) => runScript(script, index < 2 ? 'dies' : 'lives'));
    await Promise.all(children.map((child) => once(child, 'close')));
    assert.equal(readFileSync(counter, 'utf8'), '30');
  });

  it('keeps processes apart that are stopped anywhere, for as long as one can wait, and killed', async (t) => {
    const directory = temporaryDirectory(t);
    const [path, inside] = [join(directory, 'lock'), join(directory, 'inside')];
    // Says its rounds, and what it must never see: somebody else, and alive, where it is alone.
    const script = `
      import { readFileSync, rmSync, writeFileSync } from 'node:fs';
      import { LockFile } from ${module};
      const lock = new LockFile(${JSON.stringify(path)}, ${never});
      const inside = ${JSON.stringify(inside)};
      const lives = (pid) => {
        try { return pid > 0 && !/\\) Z/.test(readFileSync('/proc/' + pid + '/stat', 'latin1')); } catch { return false; }
      };
      for (;;) {
        if (!lock.take()) { await new Promise((resolve) => setTimeout(resolve, Math.random() * 3)); continue; }
        let other = 0;
        try { other = Number(readFileSync(inside, 'utf8')); } catch {}
        if (lives(other)) console.log('together with ' + other);
        writeFileSync(inside, String(process.pid));
        await new Promise((resolve) => setTimeout(resolve, 1));
        if (Number(readFileSync(inside, 'utf8')) !== process.pid) console.log('passed over');
        rmSync(inside);
        console.log('round');
        lock.release();
      }`;
    const lines: string[] = [];
    const begin = () => {
      const child = runScript(script);
      createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
      t.after(() => child.kill('SIGKILL'));
      return child;
    };
    const children = Array.from({ length: 5 }, begin);
    await once(children[0]!.stdout, 'data');
    for (let step = 0; step < 12; step++) {
      const at = step % children.length;
      if (step % 3 === 0) {
        children[at]!.kill('SIGKILL');
        children[at] = begin();
      } else {
        // Longer than the lock gives a maker that writes nothing: whatever it stood at, others must not rely on it.
        children[at]!.kill('SIGSTOP');
        await delay(step % 2 === 0 ? 900 : 50);
        children[at]!.kill('SIGCONT');
      }
      await delay(20);
    }
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(children.map((child) => once(child, 'close')));
    assert.ok(lines.filter((line) => line === 'round').length > 20, `${lines.length} rounds`);
    assert.deepEqual(
      lines.filter((line) => line !== 'round'),
      [],
    );
  });
});
