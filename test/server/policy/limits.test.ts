import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TunnelError } from '../../../protocol/errors.ts';
import type { Limits } from '../../../server/config/config.ts';
import { ownCounter } from '../../../server/policy/counter.ts';
import { TunnelLimiter } from '../../../server/policy/limits.ts';
import type { CountedOwner, DetachedScope, TunnelCount } from '../../../server/policy/limits.ts';
import { generousLimits } from '../support/gateway-parts.ts';

const never = new AbortController().signal;
const alice: CountedOwner = { issuer: 'one', subject: 'alice' };
const bob: CountedOwner = { issuer: 'one', subject: 'bob' };
const box = { host: 'box', port: 22 };

/** An open tunnel of a person. */
async function open(
  limiter: TunnelLimiter,
  limits: Partial<Limits>,
  owner: CountedOwner = alice,
  address = '192.0.2.1',
): Promise<TunnelCount> {
  const count = limiter.countOffer(address, { ...generousLimits, ...limits });
  try {
    await count.addPrincipal(owner, never);
    count.addTarget(box);
  } catch (error) {
    count.release();
    throw error;
  }
  return count;
}

describe('the counts of tunnels', () => {
  it('come back to nothing, in any order', () => {
    const limiter = new TunnelLimiter();
    const limits = { ...generousLimits, tunnels: 3, perAddress: 2 };
    for (let round = 0; round < 3; round++) {
      const counts = ['a', 'b', 'a'].map((address) => limiter.countOffer(address, limits));
      assert.throws(() => limiter.countOffer('c', limits), { code: 'LIMIT_TUNNELS' });
      counts[1]!.release();
      assert.throws(() => limiter.countOffer('a', limits), { code: 'LIMIT_ADDRESS' });
      counts[2]!.release();
      counts[0]!.release();
      counts[0]!.release();
    }
  });

  it('keep the same subject of two issuers apart', async () => {
    const limiter = new TunnelLimiter();
    const limits = { perSubject: 1 };
    await open(limiter, limits, { issuer: 'one', subject: 'x' });
    await open(limiter, limits, { issuer: 'two', subject: 'x' });
    await open(limiter, limits, { issuer: 'one","x', subject: '' });
    await assert.rejects(open(limiter, limits, { issuer: 'one', subject: 'x' }), { code: 'LIMIT_SUBJECT' });
  });

  it('release the tunnel of a principal that is over the limit', async () => {
    const removed: string[] = [];
    const limiter = new TunnelLimiter({
      principals: { add: async () => 2, remove: (name) => void removed.push(name) },
    });
    await assert.rejects(open(limiter, { perSubject: 1 }), { code: 'LIMIT_SUBJECT' });
    assert.deepEqual(removed, ['subject ["one","alice"]']);
  });

  it('release the tunnel of a client that left while it was counted', async () => {
    const counting = Promise.withResolvers<number>();
    const removed = Promise.withResolvers<string>();
    const limiter = new TunnelLimiter({
      principals: { add: () => counting.promise, remove: removed.resolve },
    });
    const client = new AbortController();
    const acquiring = limiter.countOffer('a', generousLimits).addPrincipal(alice, client.signal);
    client.abort(new Error('the client has left'));
    await assert.rejects(acquiring, { message: 'the client has left' });
    counting.resolve(1);
    assert.equal(await removed.promise, 'subject ["one","alice"]');
  });

  it('count nothing when a counter elsewhere fails', async () => {
    const limiter = new TunnelLimiter({
      principals: {
        add: () => Promise.reject(new TunnelError('STORE_UNAVAILABLE', 'a test')),
        remove: () => assert.fail('nothing was counted'),
      },
    });
    await assert.rejects(open(limiter, {}), { code: 'STORE_UNAVAILABLE' });
  });

  it('take the addresses of one IPv6 network as one', () => {
    const limiter = new TunnelLimiter();
    const limits = { ...generousLimits, perAddress: 1 };
    limiter.countOffer('2001:db8:1:2::1', limits);
    limiter.countOffer('2001:db8:1:3::1', limits);
    assert.throws(() => limiter.countOffer('2001:db8:1:2:ffff::9', limits), { code: 'LIMIT_ADDRESS' });
  });

  it('do not count an offer that an address had no room for', () => {
    const limiter = new TunnelLimiter();
    const limits = { ...generousLimits, tunnels: 2, perAddress: 1 };
    limiter.countOffer('a', limits);
    for (let at = 0; at < 5; at++)
      assert.throws(() => limiter.countOffer('a', limits), { code: 'LIMIT_ADDRESS' });
    limiter.countOffer('b', limits);
  });

  it('have a limit for each target', async () => {
    const limiter = new TunnelLimiter();
    const first = await open(limiter, { perTarget: 2 });
    await open(limiter, { perTarget: 2 }, bob);
    await assert.rejects(open(limiter, { perTarget: 2 }), { code: 'LIMIT_TARGET' });
    first.release();
    await open(limiter, { perTarget: 2 });
  });
});

describe('the counts of detached tunnels', () => {
  const one = { perSubject: 1, perAddress: 1, tunnels: 1, perTarget: 1 };

  it('are no limit for new tunnels, of any kind', async () => {
    const limiter = new TunnelLimiter();
    for (let round = 0; round < 5; round++) (await open(limiter, one)).detach();
    await open(limiter, one);
    await assert.rejects(open(limiter, one), { code: 'LIMIT_TUNNELS' });
  });

  it('never refuse a tunnel that comes back, and count it then', async () => {
    const limiter = new TunnelLimiter();
    const lost = await open(limiter, one);
    lost.detach();
    const newer = await open(limiter, one);
    lost.attach('198.51.100.7');
    newer.release();
    await assert.rejects(open(limiter, { ...one, tunnels: 9 }), { code: 'LIMIT_SUBJECT' });
    const other = limiter.countOffer('192.0.2.1', { ...one, ...generousLimits, perAddress: 1 });
    const limits = { ...generousLimits, perAddress: 1 };
    assert.throws(() => limiter.countOffer('198.51.100.7', limits), { code: 'LIMIT_ADDRESS' });
    other.release();
    lost.release();
    (await open(limiter, one)).release();
  });

  it('come back to nothing however often a connection was lost and replaced', async () => {
    const counter = ownCounter();
    const limiter = new TunnelLimiter({ counter });
    const count = await open(limiter, one);
    for (const step of ['detach', 'detach', 'attach', 'attach', 'detach', 'attach', 'detach'] as const)
      if (step === 'detach') count.detach();
      else count.attach('198.51.100.7');
    count.release();
    count.detach();
    count.attach('198.51.100.7');
    const names = ['offer', 'offer 198.51.100.7', 'offer 192.0.2.1', 'subject ["one","alice"]'];
    const others = ['target box:22', 'detached', 'detached ["one","alice"]', 'detached box:22'];
    for (const name of [...names, ...others]) assert.equal(counter.count(name), 0, name);
  });

  it('tell which have to make room, when a newer tunnel is opened or lost', async () => {
    const reported: (readonly [DetachedScope, number])[] = [];
    const limiter = new TunnelLimiter({
      onTooManyDetached: (scope, max) => void reported.push([scope, max]),
    });
    const limits = { perSubject: 2 };
    const counts = [await open(limiter, limits), await open(limiter, limits)];
    for (const count of counts) count.detach();
    await open(limiter, limits, bob);
    assert.deepEqual(reported, []);
    const third = await open(limiter, limits);
    assert.deepEqual(reported.splice(0), [[{ owner: alice }, 1]]);
    third.detach();
    assert.deepEqual(reported, [[{ owner: alice }, 2]]);
  });
});

describe('the rate of opened tunnels', () => {
  it('is that of the last minute, and says when there is room', async () => {
    let clock = 1000;
    const limiter = new TunnelLimiter({ now: () => clock });
    const limits = { opensPerMinute: 2 };
    (await open(limiter, limits)).release();
    clock += 20_000;
    (await open(limiter, limits)).release();
    await assert.rejects(open(limiter, limits), { code: 'LIMIT_RATE', retryAfterMs: 40_000 });
    await open(limiter, limits, bob);
    clock += 40_000;
    (await open(limiter, limits)).release();
    await assert.rejects(open(limiter, limits), { code: 'LIMIT_RATE', retryAfterMs: 20_000 });
  });
});
