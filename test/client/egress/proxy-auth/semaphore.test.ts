import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Semaphore } from '../../../../client/egress/proxy-auth/semaphore.ts';

const never = new AbortController().signal;

describe('Turns', () => {
  it('lets as many begin as the limit says, in order, and more when it rises', async () => {
    let limit = 1;
    const turns = new Semaphore(() => limit);
    const begun: number[] = [];
    const ends = [0, 1, 2, 3].map(async (index) => {
      const end = await turns.acquire(never);
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

  it('forgets who does not wait any more', async () => {
    const turns = new Semaphore(() => 1);
    const end = await turns.acquire(never);
    const leaving = new AbortController();
    const left = turns.acquire(leaving.signal);
    const next = turns.acquire(never);
    leaving.abort();
    await assert.rejects(left, { name: 'AbortError' });
    await assert.rejects(turns.acquire(AbortSignal.abort()), { name: 'AbortError' });
    end();
    (await next)();
    (await turns.acquire(never))();
  });
});
