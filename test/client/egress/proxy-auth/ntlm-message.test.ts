import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import {
  authenticateMessage,
  negotiateMessage,
  parseChallengeMessage,
  responseKey,
  responses,
} from '../../../../client/egress/proxy-auth/ntlm-message.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

// MS-NLMP §4.2.1 and §4.2.4: the common values and those of NTLMv2.
const user = { domain: 'Domain', name: 'User', password: 'Password' };
const clientChallenge = hex('aaaaaaaaaaaaaaaa');
const targetInfo = hex('02000c0044006f006d00610069006e00 01000c0053006500720076006500720000000000');
const challengeMessage = hex(`
  4e544c4d53535000 02000000 0c000c0038000000 33828ae2 0123456789abcdef 0000000000000000
  2400240044000000 060070170000000f 530065007200760065007200
  02000c0044006f006d00610069006e00 01000c0053006500720076006500720000000000`);
const lm = '86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa';
const proof = '68cd0ab851e51c96aabc927bebef6a1c';
const temp = `01010000000000000000000000000000aaaaaaaaaaaaaaaa00000000${targetInfo.toString('hex')}00000000`;

function hmac(key: Buffer, parts: readonly Buffer[]): Buffer {
  return createHmac('md5', key).update(Buffer.concat(parts)).digest();
}

/** The bytes that the field at an offset points to. */
function field(message: Buffer, at: number): Buffer {
  const [length, offset] = [message.readUInt16LE(at), message.readUInt32LE(at + 4)];
  return message.subarray(offset, offset + length);
}

describe('NTLM messages', () => {
  it('have the key and the responses of MS-NLMP §4.2.4', () => {
    const key = responseKey(user);
    assert.equal(key.toString('hex'), '0c868a403bfd7a93a3001ef22ef02e3f');
    const { serverChallenge, targetInfo: found } = parseChallengeMessage(challengeMessage);
    assert.deepEqual(found, targetInfo);
    const given = { serverChallenge, clientChallenge, time: Buffer.alloc(8), targetInfo };
    const computed = responses(key, given);
    assert.equal(computed.lm.toString('hex'), lm);
    assert.equal(computed.nt.toString('hex'), proof + temp);
    assert.equal(computed.sessionKey.toString('hex'), '8de40ccadbc14a82f15cb0ad0de95ca3');
  });

  it('authenticate as the example of MS-NLMP §4.2.4 does, at its time', () => {
    const challenge = parseChallengeMessage(challengeMessage);
    const message = authenticateMessage(challenge, user, { clientChallenge, nowMs: -11_644_473_600_000 });
    assert.equal(message.toString('latin1', 0, 8), 'NTLMSSP\0');
    assert.equal(message.readUInt32LE(8), 3);
    assert.equal(field(message, 12).toString('hex'), lm);
    assert.equal(field(message, 20).toString('hex'), proof + temp);
    assert.equal(field(message, 28).toString('utf16le'), 'Domain');
    assert.equal(field(message, 36).toString('utf16le'), 'User');
    // Nothing is agreed that the proxy has not offered, and no key is sent.
    const flags = message.readUInt32LE(60);
    assert.equal(flags & ~challenge.flags, 0);
    assert.equal(field(message, 52).length, 0);
  });

  it('takes the time of the proxy where it gives one, signs, and leaves the older response out', () => {
    const stamp = hex('0700080000112233445566ee');
    const info = Buffer.concat([targetInfo.subarray(0, -4), stamp, Buffer.alloc(4)]);
    const bytes = Buffer.concat([challengeMessage.subarray(0, 68), info]);
    bytes.writeUInt16LE(info.length, 40);
    const challenge = parseChallengeMessage(bytes);
    const message = authenticateMessage(challenge, user, { clientChallenge, nowMs: 0 });
    assert.deepEqual(field(message, 12), Buffer.alloc(24));
    const nt = field(message, 20);
    assert.equal(nt.subarray(24, 32).toString('hex'), '00112233445566ee');
    // MsvAvFlags with the bit for a code.
    assert.ok(nt.includes(hex('0600040002000000')));
    const { sessionKey } = responses(responseKey(user), {
      serverChallenge: challenge.serverChallenge,
      clientChallenge,
      time: nt.subarray(24, 32),
      targetInfo: nt.subarray(44, -4),
    });
    const code = Buffer.from(message.subarray(72, 88));
    message.fill(0, 72, 88);
    assert.deepEqual(code, hmac(sessionKey, [negotiateMessage(), bytes, message]));
  });

  it('say nothing of user and machine in the first of them', () => {
    const message = negotiateMessage();
    assert.equal(message.length, 32);
    assert.equal(message.readUInt32LE(8), 1);
    assert.deepEqual(message.subarray(16), Buffer.alloc(16));
  });

  it('write names without Unicode where the proxy knows none, and keep letters that have no capital', () => {
    const bytes = Buffer.from(challengeMessage);
    bytes.writeUInt32LE(0xe28a8232, 20);
    const message = authenticateMessage(parseChallengeMessage(bytes), user, { clientChallenge, nowMs: 0 });
    assert.equal(field(message, 36).toString('latin1'), 'User');
    const [small, large] = ['straße', 'STRAßE'].map((name) => responseKey({ ...user, name }));
    assert.deepEqual(small, large);
  });

  it('any bytes give a challenge or a RangeError, never anything else', () => {
    const damaged = fc
      .tuple(fc.nat(challengeMessage.length - 1), fc.nat(255), fc.nat(challengeMessage.length))
      .map(([at, byte, length]) => {
        const bytes = Buffer.from(challengeMessage);
        bytes[at] = byte;
        return bytes.subarray(0, length);
      });
    const random = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.oneof(damaged, random), (bytes) => {
        try {
          authenticateMessage(parseChallengeMessage(bytes), user, { clientChallenge, nowMs: 0 });
        } catch (error) {
          assert.ok(error instanceof RangeError, String(error));
        }
      }),
      { numRuns: 5000 },
    );
  });
});
