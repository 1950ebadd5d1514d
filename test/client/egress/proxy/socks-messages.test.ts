import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  greeting5,
  readChoice5,
  refusal4,
  refusal5,
  request4,
  request5,
  rest5,
  signIn5,
} from '../../../../client/egress/proxy/socks-messages.ts';

describe('the bytes of SOCKS', () => {
  for (const [what, bytes, expected] of [
    ['a greeting without a password', greeting5(false), '050100'],
    ['a greeting with a password', greeting5(true), '05020002'],
    ['user and password', signIn5('ab', 'ü'), '0102616202c3bc'],
    ['a name', request5({ host: 'gw', port: 443 }), '0501000302677701bb'],
    ['an IPv4 address', request5({ host: '10.0.0.255', port: 22 }), '050100010a0000ff0016'],
    ['::1', request5({ host: '::1', port: 1 }), `05010004${'0'.repeat(30)}010001`],
    [
      'a whole IPv6 address',
      request5({ host: '2001:db8:1:2:3:4:5:6', port: 1 }),
      '0501000420010db80001000200030004000500060001',
    ],
    [
      'an IPv6 address that ends in zeros',
      request5({ host: 'fe80::', port: 1 }),
      `05010004fe80${'0'.repeat(28)}0001`,
    ],
    [
      'an IPv4 address in IPv6',
      request5({ host: '::ffff:10.0.0.1', port: 1 }),
      `05010004${'0'.repeat(20)}ffff0a0000010001`,
    ],
    ['an address by SOCKS 4', request4({ host: '10.0.0.1', port: 443 }, 'me'), '040101bb0a0000016d6500'],
    ['a name by SOCKS 4a', request4({ host: 'gw', port: 443 }, ''), '040101bb0000000100677700'],
  ] as const) {
    it(`are right for ${what}`, () => assert.equal(bytes.toString('hex'), expected));
  }

  for (const [what, make] of [
    ['an empty user', () => signIn5('', 'p')],
    ['an empty password', () => signIn5('u', '')],
    ['a long password', () => signIn5('u', 'p'.repeat(256))],
    ['a long name', () => request5({ host: 'a'.repeat(256), port: 1 })],
    ['IPv6 by SOCKS 4', () => request4({ host: '::1', port: 1 }, '')],
    ['a zero byte', () => request4({ host: 'gw', port: 1 }, 'a\0b')],
    ['an answer of HTTP', () => readChoice5(Buffer.from('HT'))],
    ['a refusal of HTTP', () => refusal5(Buffer.from('HT'))],
    ['an answer of SOCKS 5 to SOCKS 4', () => refusal4(Buffer.from([5, 0, 0, 0, 0, 0, 0, 0]))],
    ['an unknown kind of address', () => rest5(Buffer.from([5, 0, 0, 9, 0]))],
  ] as const) {
    it(`cannot be ${what}`, () => assert.throws(make, RangeError));
  }

  it('tell how long the rest of an answer is', () => {
    const lengths = [1, 4, 3].map((type) => rest5(Buffer.from([5, 0, 0, type, 7])));
    assert.deepEqual(lengths, [5, 17, 9]);
  });

  it('tell a refusal', () => {
    assert.equal(refusal5(Buffer.from([5, 0])), undefined);
    assert.equal(refusal4(Buffer.from([0, 90, 0, 0, 0, 0, 0, 0])), undefined);
    for (const code of [1, 2, 9, 255]) assert.ok(refusal5(Buffer.from([5, code])));
    for (const code of [91, 92, 93, 1]) assert.ok(refusal4(Buffer.from([0, code])));
  });

  it('tell which sign-in is wanted', () => {
    const wanted = [0, 2, 255].map((method) => readChoice5(Buffer.from([5, method])));
    assert.deepEqual(wanted, ['nothing', 'password', 'something else']);
  });
});
