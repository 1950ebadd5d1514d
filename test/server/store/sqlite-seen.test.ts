import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { sharedReplayMemory } from '../../../server/auth/dpop/replay-cache.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import { SqliteSeen } from '../../../server/store/sqlite-seen.ts';
import type { Seen, Store } from '../../../server/store/store.ts';

const folder = mkdtempSync(join(tmpdir(), 'postern-seen-'));
after(() => rmSync(folder, { recursive: true }));
let count = 0;
const newFile = (): string => join(folder, `store-${++count}.db`);
const module = fileURLToPath(new URL('../../../server/store/open-store.ts', import.meta.url));
const later = Date.now() + 3_600_000;

async function using(
  file: string,
  work: (seen: Seen, store: Store) => Promise<void> | void,
  now: () => number = Date.now,
): Promise<void> {
  const store = await openSqliteStore(file, { now });
  try {
    await work(await store.seen(), store);
  } finally {
    await store.close();
  }
}

/** A script with `seen`, the memory beside the store `file`, in a process of its own. */
function script(file: string, body: string): string[] {
  const opening = `import { openSqliteStore } from ${JSON.stringify(module)};
    const store = await openSqliteStore(${JSON.stringify(file)});
    const seen = await store.seen();`;
  return ['--input-type=module', '-e', `${opening}\n${body}`];
}

describe('the memory of ids that are valid once', () => {
  it('knows an id from its first time to its end, over a restart', async () => {
    const file = newFile();
    await using(file, async (seen) => {
      assert.deepEqual(
        await Promise.all([seen.add('a', later), seen.add('a', later), seen.add('b', later)]),
        [true, false, true],
      );
    });
    await using(file, async (seen) => assert.equal(await seen.add('a', later), false));
  });

  it('forgets an id some time after its end', async () => {
    let now = 1000;
    await using(
      newFile(),
      async (seen) => {
        await seen.add('short', 2000);
        await seen.add('long', 1e12);
        now = 2000;
        while (!(await seen.add('short', 3000))) await turn();
        assert.equal(await seen.add('long', 1e12), false);
      },
      () => now,
    );
  });

  it('is one for all processes, which hear of each id once between them, one of them killed', async () => {
    const file = newFile();
    const body = `process.stdin.once('data', async () => {
        let news = 0;
        for (let at = 0; at < 5000; at++) if (await seen.add('id ' + at, ${later})) news++;
        console.log(news);
        process.kill(process.pid, 'SIGKILL');
      });
      console.log('ready');`;
    const children = [1, 2, 3].map(() => spawn(process.execPath, script(file, body)));
    const outputs = children.map((child) => text(child.stdout));
    await Promise.all(children.map((child) => once(child.stdout, 'data')));
    for (const child of children) child.stdin.write('go\n');
    const news = (await Promise.all(outputs)).map((each) => Number(each.split('\n').at(-2)));
    assert.equal(
      news.reduce((sum, each) => sum + each),
      5000,
      String(news),
    );
    await using(file, async (seen) => assert.equal(await seen.add('id 4999', later), false));
  });

  it('refuses when it is full, knows what it knew, and has room again when that has expired', async () => {
    let now = 1000;
    const file = newFile();
    const seen = new SqliteSeen(file, () => now, { maxPages: 8 });
    try {
      let added = 0;
      const fill = async (): Promise<void> => {
        for (; added < 10_000; added++) assert.equal(await seen.add(`id ${added}`, 2000), true);
      };
      await assert.rejects(fill(), { code: 'STORE_UNAVAILABLE' });
      assert.ok(added > 100, String(added));
      assert.equal(await seen.add('id 0', 2000), false);
      now = 2000;
      const isFull = (): Promise<boolean> =>
        seen.add('another', 3000).then(
          (isNew) => !isNew,
          () => true,
        );
      while (await isFull()) await turn();
    } finally {
      seen.close();
    }
  });

  it('refuses when the disk is full', () => {
    const body = `const answers = [];
      for (let at = 0; at < 20000; at++) {
        try { if (!(await seen.add('id ' + at, ${later}))) answers.push('old'); }
        catch (error) { answers.push(error.code); break; }
      }
      console.log(answers.join());`;
    const limited = ['-c', 'trap "" XFSZ; ulimit -f 512; exec "$0" "$@"', process.execPath];
    const { stdout, stderr } = spawnSync('sh', [...limited, ...script(newFile(), body)], {
      encoding: 'utf8',
    });
    assert.equal(stdout, 'STORE_UNAVAILABLE\n', stderr);
  });

  it('takes no id as new that it could not write down, even when the disk has room again', async () => {
    let works = false;
    const memory = sharedReplayMemory({
      async add() {
        if (works) return true;
        throw new RangeError('full');
      },
    });
    await assert.rejects(memory.isNew('a', later), RangeError);
    works = true;
    assert.equal(await memory.isNew('a', later), false);
    assert.equal(await memory.isNew('b', later), true);
  });

  it('is made anew when a crash of the machine has damaged it, once by all that start then', async () => {
    const file = newFile();
    await using(file, async (seen) => {
      for (let at = 0; at < 2000; at++) await seen.add(`id ${at}`, later);
    });
    const whole = readFileSync(`${file}-seen`);
    const body = `console.log(await seen.add('one', ${later})); await store.close();`;
    for (const damage of [
      Buffer.alloc(8192, 0xa5),
      whole.subarray(0, whole.length / 2),
      Buffer.concat([whole.subarray(0, 4096), Buffer.alloc(4096, 0xa5), whole.subarray(8192)]),
    ]) {
      writeFileSync(`${file}-seen`, damage);
      const children = [1, 2].map(() => spawn(process.execPath, script(file, body)));
      const outputs = await Promise.all(children.map((child) => text(child.stdout)));
      assert.deepEqual(outputs.toSorted(), ['false\n', 'true\n']);
    }
  });

  it('is for its owner alone', async () => {
    const file = newFile();
    await using(file, async (seen) => {
      await seen.add('a', later);
      for (const suffix of ['-seen', '-seen-wal', '-seen-shm'])
        assert.equal(statSync(`${file}${suffix}`).mode & 0o777, 0o600);
    });
  });
});
