import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { addressCheck } from '../../../server/dial/address-policy.ts';
import { addressBytes, cidrContains, parseCidr } from '../../../server/net/cidr.ts';

const numRuns = Number(process.env['POSTERN_FUZZ_RUNS'] ?? 2000);

function judge(
  address: string,
  { allow = [], deny = [] }: { allow?: string[]; deny?: string[] } = {},
): boolean {
  return addressCheck({ network: { allow, deny, nameServers: [] }, ownAddresses: [] })(address, 22).allowed;
}

const ordinary = [
  '10.0.0.5',
  '172.16.3.4',
  '192.168.1.1',
  '100.64.0.1',
  '8.8.8.8',
  '192.0.1.1',
  '128.0.0.1',
  '::ffff:10.0.0.5',
  '2606:4700::1111',
  'fd00::5',
  'fc00::1',
  '2a00:1450::1',
  '64:ff9b::8.8.8.8',
  '64:ff9b::10.0.0.5',
];

const special = [
  '127.0.0.1',
  '127.255.255.254',
  '0.0.0.0',
  '0.1.2.3',
  '169.254.1.1',
  '169.254.169.254',
  '169.254.170.2',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  '224.0.0.1',
  '239.255.255.255',
  '255.255.255.255',
  '240.0.0.1',
  '192.0.0.1',
  '192.0.2.1',
  '198.51.100.7',
  '203.0.113.7',
  '198.18.0.1',
  '198.19.255.255',
  '192.88.99.1',
  '::1',
  '::',
  'fe80::1',
  'febf::1',
  'fec0::1',
  'ff02::1',
  'fd00:ec2::254',
  'fd20:ce::254',
  '2001:db8::1',
  '3fff::1',
  '100::1',
  '2001:2::1',
  '2001:10::1',
  '2001:20::1',
  '5f00::1',
  '4000::1',
  'e000::1',
  '64:ff9c::1',
  '64:ff9b:2::1',
  '::ffff:127.0.0.1',
  '::ffff:169.254.169.254',
  '::ffff:0.0.0.0',
  '::127.0.0.1',
  '::10.0.0.5',
  '::ffff:0:127.0.0.1',
  '64:ff9b::127.0.0.1',
  '64:ff9b::169.254.169.254',
  '64:ff9b:1::127.0.0.1',
  '64:ff9b:1::10.0.0.5',
  '2002:7f00:1::',
  '2002:a00:5::1',
  '2001:0:7f00:1::',
  '2001:0:808:808::80ff:fffe',
  '2606:4700::5efe:127.0.0.1',
  '2606:4700::200:5efe:169.254.169.254',
];

const notAddresses = [
  '',
  'localhost',
  '127.1',
  '0x7f.1',
  '0177.0.0.1',
  '2130706433',
  '127.0.0.01',
  '10.0.0.5/8',
  ' 10.0.0.5',
  '10.0.0.5 ',
  'fe80::1%lo',
  'fd00::5%eth0',
  '[fd00::5]',
  '１０.0.0.5',
  '10.0.0.5\0',
];

describe('addressCheck()', () => {
  for (const address of ordinary) {
    it(`allows ${address} unless told otherwise`, () => {
      assert.ok(judge(address));
      assert.ok(!judge(address, { allow: ['203.0.114.0/24'] }));
    });
  }

  for (const address of special) {
    it(`refuses ${address}, also when everything is allowed`, () => {
      assert.ok(!judge(address));
      assert.ok(!judge(address, { allow: ['0.0.0.0/0', '::/0'] }));
      assert.ok(!judge(address, { allow: ['0.0.0.0/1', '128.0.0.0/1', '::/1', '8000::/1'] }));
    });
  }

  for (const address of notAddresses) {
    it(`refuses ${JSON.stringify(address)}, which is no address`, () => {
      assert.ok(!judge(address));
    });
  }

  const opened: readonly (readonly [string, string, boolean])[] = [
    ['127.0.0.1', '127.0.0.1/32', true],
    ['127.0.0.1', '127.0.0.0/8', true],
    ['127.0.0.1', '126.0.0.0/7', false],
    ['127.0.0.2', '127.0.0.1/32', false],
    ['::ffff:127.0.0.1', '127.0.0.1/32', true],
    ['::1', '::1/128', true],
    ['::1', '::/127', false],
    ['169.254.1.1', '169.254.0.0/16', true],
    ['169.254.169.254', '169.254.0.0/16', false],
    ['169.254.169.254', '169.254.169.254/32', true],
    ['100.100.100.200', '100.100.100.200/32', true],
    ['100.100.100.200', '100.64.0.0/10', false],
    ['fd00:ec2::254', 'fd00::/8', false],
    ['fe80::1', 'fe80::/10', true],
    ['203.0.113.7', '203.0.113.0/24', true],
    ['2002:a00:5::1', '2002::/16', true],
    ['2002:7f00:1::', '2002::/16', false],
    ['::127.0.0.1', '::127.0.0.1/128', false],
    ['4000::1', '4000::/3', false],
  ];
  for (const [address, range, allowed] of opened) {
    it(`${allowed ? 'allows' : 'refuses'} ${address} when only ${range} is listed`, () => {
      assert.equal(judge(address, { allow: [range] }), allowed);
    });
  }

  it('lets deny win over allow, in every form of the address', () => {
    const network = { allow: ['10.0.0.0/8', '64:ff9b::/96', '2002::/16'], deny: ['10.0.0.5/32'] };
    for (const address of ['10.0.0.5', '::ffff:10.0.0.5', '64:ff9b::10.0.0.5', '2002:a00:5::1']) {
      assert.ok(!judge(address, network), address);
    }
    assert.ok(judge('10.0.0.6', network));
  });

  const everything = { allow: ['127.0.0.0/8', '::1', '0.0.0.0/8', '10.0.0.0/8'], deny: [], nameServers: [] };
  const own = (host: string) =>
    addressCheck({
      network: everything,
      ownAddresses: [
        { kind: 'tcp', host, port: 8022 },
        { kind: 'unix', path: '/x' },
      ],
    });

  it('refuses the address the gateway listens on, in every spelling, and only with its port', () => {
    for (const address of ['127.0.0.1', '::ffff:127.0.0.1', '0.0.0.0']) {
      assert.ok(!own('127.0.0.1')(address, 8022).allowed, address);
    }
    assert.ok(own('127.0.0.1')('127.0.0.1', 22).allowed);
    assert.ok(own('127.0.0.1')('127.0.0.2', 8022).allowed);
    assert.ok(own('127.0.0.1')('10.0.0.5', 8022).allowed);
  });

  it('refuses every address of this machine when the gateway listens on all', () => {
    const local = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
    for (const host of ['0.0.0.0', '::']) {
      for (const { address } of local) assert.ok(!own(host)(address, 8022).allowed, address);
      assert.ok(!own(host)('127.9.9.9', 8022).allowed);
      assert.ok(own(host)('10.254.254.254', 8022).allowed);
    }
  });

  it('reads its own addresses at each check', () => {
    const ownAddresses: { kind: 'tcp'; host: string; port: number }[] = [];
    const check = addressCheck({ network: everything, ownAddresses });
    assert.ok(check('127.0.0.1', 8022).allowed);
    ownAddresses.push({ kind: 'tcp', host: '127.0.0.1', port: 8022 });
    assert.ok(!check('127.0.0.1', 8022).allowed);
  });

  it('never allows what ipaddr.js calls loopback, link-local, multicast, unspecified or broadcast', () => {
    const word = fc.constantFrom(
      '0',
      '1',
      '7f00',
      '127',
      'a9fe',
      'ffff',
      'fe80',
      'ff02',
      '64',
      'ff9b',
      '2002',
      '5efe',
      '808',
    );
    const address = fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc.array(word, { minLength: 8, maxLength: 8 }).map((words) => words.join(':')),
    );
    const closed = ['loopback', 'linkLocal', 'multicast', 'unspecified', 'broadcast'];
    const property = fc.property(address, (text) => {
      if (!judge(text)) return;
      assert.ok(!closed.includes(ipaddr.process(text).range()), text);
    });
    fc.assert(property, { numRuns });
  });
});

describe('parseCidr()', () => {
  const refused = [
    '',
    '10',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/08',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '10.0.0.1/8',
    '10.0/16',
    '::/129',
    '::1/127',
    'fe80::1%lo',
    '[::1]',
    '::ffff:10.0.0.0/104',
    '::ffff:10.0.0.5',
    'box',
    '10.0.0.0/8 ',
    '0x0a.0.0.0/8',
  ];
  for (const text of refused) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseCidr(text), RangeError);
    });
  }

  it('contains what ipaddr.js says it contains', () => {
    const property = fc.property(
      fc.ipV4(),
      fc.ipV4(),
      fc.integer({ min: 0, max: 32 }),
      (base, address, prefix) => {
        const first = ipaddr.IPv4.networkAddressFromCIDR(`${base}/${prefix}`).toString();
        const range = parseCidr(`${first}/${prefix}`);
        const expected = ipaddr.IPv4.parse(address).match(ipaddr.IPv4.parseCIDR(range.text));
        assert.equal(cidrContains(range, addressBytes(address)!), expected);
      },
    );
    fc.assert(property, { numRuns });
  });
});
