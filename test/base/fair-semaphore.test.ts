import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FairSemaphore } from '../../base/fair-semaphore.ts';

const never = new AbortController().signal;

describe('a fair semaphore', () => {
  it('gives permits to one holder after the other, whatever each of them waits for', async () => {
    const semaphore = new FairSemaphore({ limit: 1, perHolder: 1, maxWaiting: 10 });
    const order: string[] = [];
    const waiting = ['a', 'a', 'a', 'b', 'b', 'c'].map(async (name) => {
      const release = await semaphore.acquire(name, never);
      order.push(name);
      release();
    });
    await Promise.all(waiting);
    assert.equal(order.join(''), 'aabcab');
  });

  it('leaves permits for others, however many one holder asks for', async () => {
    const semaphore = new FairSemaphore({ limit: 4, perHolder: 3, maxWaiting: 10 });
    for (let at = 0; at < 9; at++) void semaphore.acquire('a', never);
    await semaphore.acquire('b', never);
  });

  it('refuses what is too much of one holder, and lets others wait', async () => {
    const semaphore = new FairSemaphore({ limit: 1, perHolder: 1, maxWaiting: 2 });
    const release = await semaphore.acquire('a', never);
    const second = semaphore.acquire('a', never);
    void semaphore.acquire('a', never);
    await assert.rejects(semaphore.acquire('a', never), RangeError);
    const other = semaphore.acquire('b', never);
    release();
    (await second)();
    await other;
  });

  it('forgets a caller that leaves', async () => {
    const semaphore = new FairSemaphore({ limit: 1, perHolder: 1, maxWaiting: 2 });
    const release = await semaphore.acquire('a', never);
    const caller = new AbortController();
    const leaving = semaphore.acquire('b', caller.signal);
    caller.abort(new Error('it has left'));
    await assert.rejects(leaving, { message: 'it has left' });
    await assert.rejects(semaphore.acquire('b', caller.signal), { message: 'it has left' });
    release();
    (await semaphore.acquire('b', never))();
    (await semaphore.acquire('a', never))();
  });
});
