import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Semaphore } from '../../base/semaphore.ts';

const never = new AbortController().signal;

describe('Semaphore', () => {
  it('admits as many callers as the limit says, in order, and more when it rises', async () => {
    let limit = 1;
    const semaphore = new Semaphore(() => limit);
    const begun: number[] = [];
    const ends = [0, 1, 2, 3].map(async (index) => {
      const end = await semaphore.acquire(never);
      begun.push(index);
      return end;
    });
    const first = await ends[0]!;
    assert.deepEqual(begun, [0]);
    limit = 2;
    first();
    await Promise.all([ends[1], ends[2]]);
    assert.deepEqual(begun, [0, 1, 2]);
    (await ends[1]!)();
    (await ends[3]!)();
    assert.deepEqual(begun, [0, 1, 2, 3]);
  });

  it('forgets a caller whose signal aborts', async () => {
    const semaphore = new Semaphore(1);
    const end = await semaphore.acquire(never);
    const leaving = new AbortController();
    const left = semaphore.acquire(leaving.signal);
    const next = semaphore.acquire(never);
    leaving.abort();
    await assert.rejects(left, { name: 'AbortError' });
    await assert.rejects(semaphore.acquire(AbortSignal.abort()), { name: 'AbortError' });
    end();
    (await next)();
    (await semaphore.acquire(never))();
  });

  it('takes a permit back once only', async () => {
    const semaphore = new Semaphore(1);
    const release = await semaphore.acquire();
    release();
    release();
    const first = await semaphore.acquire();
    let second = false;
    void semaphore.acquire().then(() => (second = true));
    await new Promise(setImmediate);
    assert.equal(second, false);
    first();
  });

  it('keeps its order and stays quick with ten thousand callers, every other of which leaves', async () => {
    const semaphore = new Semaphore(1);
    const release = await semaphore.acquire();
    const order: number[] = [];
    const leaving = new AbortController();
    const waits = Array.from({ length: 10_000 }, (_, index) =>
      semaphore.acquire(index % 2 ? leaving.signal : never).then(
        (free) => (order.push(index), free()),
        () => {},
      ),
    );
    leaving.abort();
    release();
    await Promise.all(waits);
    assert.equal(order.length, 5000);
    assert.deepEqual(
      order,
      order.toSorted((a, b) => a - b),
    );
  });
});
