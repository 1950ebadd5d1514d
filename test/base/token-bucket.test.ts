import assert from 'node:assert/strict';
import { it } from 'node:test';
import { TokenBucket } from '../../base/token-bucket.ts';

it('TokenBucket gives a burst, then a steady rate, and never saves more than a burst', () => {
  let now = 0;
  const bucket = new TokenBucket({ burst: 3, perSecond: 2, now: () => now });
  const taken = (times: number): number =>
    Array.from({ length: times }, () => bucket.take()).filter(Boolean).length;
  assert.equal(taken(10), 3);
  now += 499;
  assert.equal(taken(10), 0);
  now += 1;
  assert.equal(taken(10), 1);
  now += 1_000_000;
  assert.equal(taken(10), 3);
});
