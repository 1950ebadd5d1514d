import assert from 'node:assert/strict';
import { it } from 'node:test';
import { ownCounter } from '../../../../server/policy/counter.ts';
import type { Counter } from '../../../../server/policy/counter.ts';
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

const addressOf = (at: number): string => `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`;

it('RateLimit counts each network, however many there are, in constant memory', () => {
  const names = new Set<string>();
  const own = ownCounter();
  const shared: Counter = {
    ...own,
    add(name) {
      names.add(name);
      return own.add(name);
    },
  };
  let clock = 0;
  for (const rate of [
    new RateLimit(20, { now: () => clock }),
    new RateLimit(20, { now: () => clock, shared }),
  ]) {
    for (let at = 0; at < 10_000; at++) assert.equal(rate.admit(addressOf(at)), 0);
    // The next one is counted too.
    const waits = Array.from({ length: 25 }, () => rate.admit('192.0.2.1'));
    assert.deepEqual(
      waits.map((wait) => wait > 0),
      [...Array.from({ length: 20 }, () => false), ...Array.from({ length: 5 }, () => true)],
    );
    // Most of the others are still let in, and those that were known before are.
    let admitted = 0;
    for (let at = 20_000; at < 21_000; at++) if (rate.admit(addressOf(at)) === 0) admitted += 1;
    assert.ok(admitted > 990, String(admitted));
    assert.equal(rate.admit(addressOf(1)), 0);
    for (let at = 30_000; at < 130_000; at++) rate.admit(addressOf(at));
    clock += 60_000;
    assert.equal(rate.admit('192.0.2.1'), 0, 'a new minute');
    clock += 60_000;
    rate.admit('192.0.2.1');
  }
  assert.ok(names.size <= 10_000 + 1024 + 1, String(names.size));
  const left = [...names].filter((name) => own.count(name) > 0);
  assert.deepEqual(left, ['request 192.0.2.1'], 'what a minute has counted is given back');
});
