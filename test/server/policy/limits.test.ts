import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Principal } from '../../../server/auth/authenticator.ts';
import { TunnelLimiter } from '../../../server/policy/limits.ts';
import { generousLimits } from '../support/gateway-parts.ts';

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

  it('keep the same subject of two issuers apart', () => {
    const counts = new TunnelLimiter();
    const limits = { ...generousLimits, perSubject: 1 };
    counts.acquireForPrincipal(principal('one', 'x'), limits);
    counts.acquireForPrincipal(principal('two', 'x'), limits);
    counts.acquireForPrincipal(principal('one","x', ''), limits);
    assert.throws(() => counts.acquireForPrincipal(principal('one', 'x'), limits), { code: 'LIMIT_SUBJECT' });
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
