import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { RateLimit } from '../../../server/login/authorization-server/rate-limit.ts';
import { TunnelLimiter } from '../../../server/policy/limits.ts';
import { SharedCounts } from '../../../server/cluster/shared-counter.ts';
import { generousLimits } from '../support/gateway-parts.ts';

const scratch = mkdtempSync(join(tmpdir(), 'postern-counts-'));
after(() => rmSync(scratch, { recursive: true }));

const make = (columns = 4): SharedCounts => SharedCounts.make(join(scratch, 'counts'), columns);

/** One process of several that count to a limit as fast as they can; prints how many it got. */
const racer = `
  import { SharedCounts } from ${JSON.stringify(import.meta.resolve('../../../server/cluster/shared-counter.ts'))};
  const [column, limit] = process.argv.slice(1).map(Number);
  const counter = SharedCounts.passed(3, 4).counter(column);
  let got = 0;
  process.stdout.write('ready');
  process.stdin.once('data', () => {
    for (let tries = 0; tries < 20000; tries++) {
      if (counter.add('the one') <= limit) got++;
      else counter.remove('the one');
      if (tries % 7 === 0 && got > 0) { counter.remove('the one'); got--; }
    }
    process.stdout.write(String(got), () => process.exit());
  });
`;

describe('counts that processes share', () => {
  it('add up, and leave no file behind', () => {
    const counts = make();
    assert.equal(existsSync(join(scratch, 'counts')), false);
    const [one, other] = [counts.counter(0), counts.counter(1)];
    assert.deepEqual([one.add('a'), other.add('a'), one.add('b'), other.add('a')], [1, 2, 1, 3]);
    other.remove('a', 2);
    assert.equal(one.add('a'), 2);
    counts.close();
  });

  it('forget a process that has ended, and no other', () => {
    const counts = make();
    const [one, other] = [counts.counter(0), counts.counter(3)];
    for (let at = 0; at < 500; at++) one.add(`name ${at}`);
    other.add('name 7');
    counts.forget(0);
    assert.equal(other.add('name 7'), 2);
    assert.equal(counts.counter(0).add('name 8'), 1);
    counts.close();
  });

  it('keep thousands of names apart', () => {
    const counts = make();
    const counter = counts.counter(2);
    const wrong = Array.from({ length: 2000 }, (_, at) => counter.add(`name ${at}`)).filter((sum) => sum > 1);
    // Both places of a name are taken with a chance of (2000 / 65536)², so that one or two are to be expected here.
    assert.ok(wrong.length < 20, `${wrong.length}`);
    counts.close();
  });

  it('let no process past a limit, however many race for it', async () => {
    const counts = make();
    const limit = 10;
    const racers = [0, 1, 2].map((column) =>
      spawn(process.execPath, ['--input-type=module', '-e', racer, String(column), String(limit)], {
        stdio: ['pipe', 'pipe', 'inherit', counts.fd],
      }),
    );
    await Promise.all(racers.map(({ stdout }) => once(stdout!, 'data')));
    const counted = racers.map(({ stdout }) => once(stdout!, 'data'));
    for (const { stdin } of racers) stdin!.write('go');
    const got = (await Promise.all(counted)).map(([text]) => Number(String(text)));
    const sum = got.reduce((all, each) => all + each, 0);
    assert.ok(sum > 0 && sum <= limit, got.join(' + '));
    assert.equal(counts.counter(3).add('the one'), sum + 1);
    counts.close();
  });

  it('make the limits of the gateway those of all its processes', () => {
    const counts = make();
    const [one, other] = [
      new TunnelLimiter({ counter: counts.counter(0) }),
      new TunnelLimiter({ counter: counts.counter(1) }),
    ];
    const limits = { ...generousLimits, tunnels: 3, perAddress: 2 };
    const first = one.countOffer('a', limits);
    other.countOffer('a', limits);
    assert.throws(() => one.countOffer('a', limits), { code: 'LIMIT_ADDRESS' });
    one.countOffer('b', limits);
    assert.throws(() => other.countOffer('c', limits), { code: 'LIMIT_TUNNELS' });
    first.release();
    other.countOffer('c', limits);
    counts.close();
  });

  it('make the limits for a target and for opened tunnels a minute those of all of them', async () => {
    const counts = make();
    const limiters = [0, 1].map((column) => new TunnelLimiter({ counter: counts.counter(column) }));
    const never = new AbortController().signal;
    const open = async (at: number, subject: string): Promise<void> => {
      const count = limiters[at]!.countOffer('a', { ...generousLimits, opensPerMinute: 2, perTarget: 3 });
      await count.addPrincipal({ issuer: 'one', subject }, never);
      count.addTarget({ host: 'box', port: 22 });
    };
    await open(0, 'alice');
    await open(1, 'alice');
    for (const at of [0, 1]) await assert.rejects(open(at, 'alice'), { code: 'LIMIT_RATE' });
    await open(1, 'bob');
    for (const at of [0, 1]) await assert.rejects(open(at, `person ${at}`), { code: 'LIMIT_TARGET' });
    counts.close();
  });

  it('make the rate of requests that of all of them', () => {
    const counts = make();
    let clock = 0;
    const [one, other] = [0, 1].map(
      (column) => new RateLimit(2, { now: () => clock, shared: counts.counter(column) }),
    );
    assert.deepEqual([one!.admit('192.0.2.1'), other!.admit('192.0.2.1')], [0, 0]);
    assert.ok(one!.admit('192.0.2.1') > 0);
    clock = 60_000;
    assert.ok(one!.admit('192.0.2.1') > 0 || other!.admit('192.0.2.2') === 0);
    assert.equal(other!.admit('192.0.2.1'), 0);
    counts.close();
  });
});
