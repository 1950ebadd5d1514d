import assert from 'node:assert/strict';
import { it } from 'node:test';
import { RateLimit } from '../../../../server/login/authorization-server/rate-limit.ts';

it('RequestRate lets each network have its share of each minute', () => {
  let clock = 0;
  const rate = new RateLimit(2, { now: () => clock });
  assert.deepEqual([rate.admit('192.0.2.1'), rate.admit('192.0.2.1')], [0, 0]);
  assert.equal(rate.admit('192.0.2.1'), 60_000);
  assert.equal(rate.admit('192.0.2.2'), 0);
  assert.deepEqual([rate.admit('2001:db8::1'), rate.admit('2001:db8::2')], [0, 0]);
  assert.ok(rate.admit('2001:db8::3') > 0, 'one /64 is one network');
  clock = 60_000;
  assert.equal(rate.admit('192.0.2.1'), 0);
});
