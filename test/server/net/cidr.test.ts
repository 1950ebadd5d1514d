import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { customerNetwork } from '../../../server/net/cidr.ts';

describe('customerNetwork()', () => {
  for (const [address, network] of [
    ['192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::9', '2001:db8:1:2::/64'],
    ['::1', '::/64'],
    ['fe80::1%eth0', 'fe80::/64'],
    ['', ''],
    ['unix', 'unix'],
  ] as const)
    it(`of ${JSON.stringify(address)} is ${JSON.stringify(network)}`, () =>
      assert.equal(customerNetwork(address), network));
});
