import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TunnelError } from '../../../protocol/errors.ts';
import type { Principal } from '../../../server/auth/authenticator.ts';
import { ownCounter } from '../../../server/policy/counter.ts';
import { TunnelLimiter } from '../../../server/policy/limits.ts';
import { generousLimits } from '../support/gateway-parts.ts';

const never = new AbortController().signal;

function principal(issuer: string, subject: string): Principal {
  return { issuer, subject, groups: new Set(), issuedAt: new Date(), expiresAt: new Date() };
}

describe('the counts of tunnels', () => {
  it('come back to nothing, in any order', () => {
    const counts = new TunnelLimiter();
    const limits = { ...generousLimits, tunnels: 3, perAddress: 2 };
    for (let round = 0; round < 3; round++) {
      const leave = [
        counts.acquireForAddress('a', limits),
        counts.acquireForAddress('b', limits),
        counts.acquireForAddress('a', limits),
      ];
      assert.throws(() => counts.acquireForAddress('c', limits), { code: 'LIMIT_TUNNELS' });
      leave[1]!();
      assert.throws(() => counts.acquireForAddress('a', limits), { code: 'LIMIT_ADDRESS' });
      leave[2]!();
      leave[0]!();
    }
  });

  it('keep the same subject of two issuers apart', async () => {
    const counts = new TunnelLimiter();
    const limits = { perSubject: 1 };
    await counts.acquireForPrincipal(principal('one', 'x'), limits, never);
    await counts.acquireForPrincipal(principal('two', 'x'), limits, never);
    await counts.acquireForPrincipal(principal('one","x', ''), limits, never);
    await assert.rejects(counts.acquireForPrincipal(principal('one', 'x'), limits, never), {
      code: 'LIMIT_SUBJECT',
    });
  });

  it('release the tunnel of a principal that is over the limit', async () => {
    const removed: string[] = [];
    const counts = new TunnelLimiter(ownCounter(), {
      add: async () => 2,
      remove: (name) => void removed.push(name),
    });
    const limits = { perSubject: 1 };
    await assert.rejects(counts.acquireForPrincipal(principal('one', 'x'), limits, never), {
      code: 'LIMIT_SUBJECT',
    });
    assert.deepEqual(removed, ['subject ["one","x"]']);
  });

  it('release the tunnel of a client that left while it was counted', async () => {
    const counting = Promise.withResolvers<number>();
    const removed = Promise.withResolvers<string>();
    const counts = new TunnelLimiter(ownCounter(), { add: () => counting.promise, remove: removed.resolve });
    const client = new AbortController();
    const acquiring = counts.acquireForPrincipal(principal('one', 'x'), { perSubject: 9 }, client.signal);
    client.abort(new Error('the client has left'));
    await assert.rejects(acquiring, { message: 'the client has left' });
    counting.resolve(1);
    assert.equal(await removed.promise, 'subject ["one","x"]');
  });

  it('count nothing when a counter elsewhere fails', async () => {
    const counts = new TunnelLimiter(ownCounter(), {
      add: () => Promise.reject(new TunnelError('STORE_UNAVAILABLE', 'a test')),
      remove: () => assert.fail('nothing was counted'),
    });
    await assert.rejects(counts.acquireForPrincipal(principal('one', 'x'), { perSubject: 9 }, never), {
      code: 'STORE_UNAVAILABLE',
    });
  });

  it('take the addresses of one IPv6 network as one', () => {
    const counts = new TunnelLimiter();
    const limits = { ...generousLimits, perAddress: 1 };
    counts.acquireForAddress('2001:db8:1:2::1', limits);
    counts.acquireForAddress('2001:db8:1:3::1', limits);
    assert.throws(() => counts.acquireForAddress('2001:db8:1:2:ffff::9', limits), { code: 'LIMIT_ADDRESS' });
  });

  it('do not count an offer that an address had no room for', () => {
    const counts = new TunnelLimiter();
    const limits = { ...generousLimits, tunnels: 2, perAddress: 1 };
    counts.acquireForAddress('a', limits);
    for (let at = 0; at < 5; at++)
      assert.throws(() => counts.acquireForAddress('a', limits), { code: 'LIMIT_ADDRESS' });
    counts.acquireForAddress('b', limits);
  });
});
