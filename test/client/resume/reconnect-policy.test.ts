import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import {
  attemptLimitMs,
  calmPauseMs,
  firstPauseMs,
  isFinal,
  PlannedReconnects,
  urgentPauseMs,
} from '../../../client/resume/reconnect-policy.ts';

/** Whether `ms` is `base` within the jitter of a fifth. */
function isAbout(ms: number, base: number): boolean {
  return ms >= base * 0.8 && ms <= base * 1.2;
}

describe('the pauses between attempts', () => {
  for (const [number, base] of [
    [0, 250],
    [1, 250],
    [2, 1000],
    [299, 1000],
    [300, 5000],
  ] as const) {
    it(`are about ${base} ms after attempt ${number} while nothing gets through`, () => {
      assert.ok(isAbout(urgentPauseMs(number), base));
    });
  }

  it('double up to a minute while the old connection works', () => {
    for (const [number, base] of [
      [0, 1000],
      [3, 8000],
      [20, 60_000],
    ] as const)
      assert.ok(isAbout(calmPauseMs(number), base), `attempt ${number}`);
  });

  it('begin after two connections that were cut at once, and grow to 5 s', () => {
    for (const [useless, base] of [
      [2, 500],
      [3, 1000],
      [10, 5000],
    ] as const)
      assert.ok(isAbout(firstPauseMs('silent', useless), base), `${useless}`);
  });

  it('spread those that were cut in the same moment over a third of a second, and cost nothing otherwise', () => {
    for (const cause of ['reset', 'dropped', 'closed'] as const) {
      const pauses = Array.from({ length: 3000 }, () => firstPauseMs(cause, 0));
      const inTenths = Map.groupBy(pauses, (ms) => Math.floor(ms / 30));
      assert.deepEqual(
        [...inTenths.keys()].toSorted((a, b) => a - b),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
      );
      for (const [, each] of inTenths) assert.ok(each.length < 600);
    }
    for (const cause of ['silent', 'network', 'wake', 'move', 'age', 'better'] as const)
      assert.equal(firstPauseMs(cause, 1), 0);
  });

  it('leave every eighth attempt more time', () => {
    assert.deepEqual([0, 6, 7, 8, 15].map(attemptLimitMs), [5000, 5000, 20_000, 5000, 20_000]);
  });
});

describe('isFinal()', () => {
  it('ends the attempts at what another one does not cure', () => {
    assert.deepEqual(
      (['TOKEN_INVALID', 'TUNNEL_KILLED', 'GATEWAY_TIMEOUT', 'HTTP_UNEXPECTED'] as const).map(isFinal),
      [true, true, false, false],
    );
  });
});

function planned(t: TestContext, betterAfterMs?: number) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const due: string[] = [];
  const plans = new PlannedReconnects((cause) => due.push(cause), {
    ...(betterAfterMs !== undefined && { betterAfterMs }),
  });
  return { plans, due, tick: (ms: number) => t.mock.timers.tick(ms) };
}

describe('PlannedReconnects', () => {
  it('is due before the maximum age, once', (t) => {
    const { plans, due, tick } = planned(t);
    plans.plan(10_000, false);
    tick(7999);
    assert.deepEqual(due, []);
    tick(1002);
    assert.deepEqual(due, ['age']);
    tick(60_000);
    assert.deepEqual(due, ['age']);
  });

  it('is not due at the same age for all', (t) => {
    const { plans, due, tick } = planned(t);
    const all = [
      plans,
      ...Array.from({ length: 199 }, () => new PlannedReconnects((cause) => due.push(cause), {})),
    ];
    for (const each of all) each.plan(10_000, false);
    tick(8500);
    assert.ok(due.length > 50 && due.length < 150, `${due.length}`);
    tick(501);
    assert.equal(due.length, 200);
  });

  it('is due for a better connector again and again, each time three times later', (t) => {
    const { plans, due, tick } = planned(t, 1000);
    plans.plan(undefined, true);
    tick(1200);
    assert.deepEqual(due, ['better']);
    tick(2000);
    assert.equal(due.length, 1);
    tick(1600);
    assert.equal(due.length, 2);
  });

  it('forgets the age of a connection that is lost, and everything when it is stopped', (t) => {
    const { plans, due, tick } = planned(t, 1000);
    plans.plan(10_000, true);
    plans.lost();
    plans.stop();
    tick(100_000);
    assert.deepEqual(due, []);
  });
});
