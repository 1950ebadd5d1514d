import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { timeLimit } from '../../stream/time-limit.ts';

describe('timeLimit()', () => {
  it('aborts after its time', async () => {
    const keepAlive = setInterval(() => {}, 1000);
    await once(timeLimit(new AbortController().signal, 10), 'abort');
    clearInterval(keepAlive);
  });

  it('aborts with the other signal, also one that has', () => {
    const other = new AbortController();
    const limit = timeLimit(other.signal, 60_000);
    assert.ok(!limit.aborted);
    other.abort();
    assert.ok(limit.aborted);
    assert.ok(timeLimit(other.signal, 60_000).aborted);
  });
});
