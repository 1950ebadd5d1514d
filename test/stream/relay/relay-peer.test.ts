import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { endReasons } from '../../../protocol/end-reason.ts';
import { RelayViolation, relayCloseCodes } from '../../../protocol/relay-frame.ts';
import type { Carrier, CarrierEnd } from '../../../stream/carrier.ts';
import {
  abortedCloseCode,
  CarrierThrottle,
  closeReasonFor,
  outcomeOf,
  relayPeer,
} from '../../../stream/relay/relay-peer.ts';
import { tunnelEnded } from '../../../stream/tunnel-ended.ts';

const v1 = relayPeer({ isV4: false, windowBytes: 8000 });
const gateway = relayPeer({ isV4: false, windowBytes: 8000, hearsReasons: true });
const v4 = relayPeer({ isV4: true, windowBytes: 8000 });

const closed = (code: number): CarrierEnd => ({ how: 'closed', code, reason: '' });

function carrier(): { carrier: Carrier; calls: string[] } {
  const calls: string[] = [];
  const fake = { pause: () => calls.push('pause'), resume: () => calls.push('resume') };
  return { carrier: fake as unknown as Carrier, calls };
}

describe('relayPeer()', () => {
  it('gives a peer of postern.relay.v1 the window, acknowledged in eighths, and no throttle', () => {
    assert.equal(v1.windowBytes, 8000);
    assert.equal(v1.ackThresholdBytes, 1000);
    assert.equal(v1.throttle, undefined);
  });

  it('gives a peer of relay v4 no window, and a throttle', () => {
    assert.equal(v4.windowBytes, Infinity);
    assert.ok(v4.throttle);
    assert.deepEqual([v4.hasEof, v4.answersPings, v4.resends], [false, false, false]);
  });
});

describe('closeReasonFor()', () => {
  for (const [what, peer, error, isOrderly, expected] of [
    ['an orderly end', v1, null, true, [1000, '']],
    ['an abort', v1, null, false, [abortedCloseCode, 'ABORTED']],
    ['an abort, to relay v4', v4, new Error('x'), false, [relayCloseCodes.TARGET_LOST, '']],
    ['a reason', v4, tunnelEnded('KILLED'), false, [4403, 'KILLED']],
  ] as const)
    it(`sends ${expected[0]} for ${what}`, () => {
      assert.deepEqual(closeReasonFor(error, { isOrderly, peer }), expected);
    });
});

describe('outcomeOf()', () => {
  for (const [what, end, peer, expected] of [
    ['a reset', { how: 'reset' }, v1, 'detached'],
    ['a reset of relay v4', { how: 'reset' }, v4, 'detached'],
    ['a Close frame of an intermediary', closed(1001), v1, 'detached'],
    ['any Close frame of relay v4', closed(1001), v4, 'peerClosed'],
    ['an abort', closed(abortedCloseCode), v1, 'ECONNRESET'],
    ['a close code of the protocol', closed(relayCloseCodes.BAD_ACK), v1, 'ECONNRESET'],
    ['a reason of a gateway', closed(4403), gateway, 'TUNNEL_KILLED'],
    ...Object.values(endReasons).map(
      ({ closeCode }) => [`${closeCode} of a client`, closed(closeCode), v1, 'ECONNRESET'] as const,
    ),
  ] as const)
    it(`of ${what} is ${expected}`, () => {
      const outcome = outcomeOf(end, peer);
      assert.equal(outcome instanceof Error ? (outcome as NodeJS.ErrnoException).code : outcome, expected);
    });

  it('of a violation is its error', () => {
    const error = new RelayViolation(4013, 'x');
    assert.equal(outcomeOf({ how: 'violation', error }, v4), error);
  });
});

describe('CarrierThrottle', () => {
  it('pauses above its limit, resumes at it, and not before it has paused', () => {
    const throttle = new CarrierThrottle(100);
    const { carrier: its, calls } = carrier();
    throttle.onRead(0, its);
    assert.equal(throttle.onReceived(100, its), false);
    assert.equal(throttle.onReceived(101, its), true);
    throttle.onRead(101, its);
    throttle.onRead(100, its);
    throttle.onRead(0, its);
    assert.deepEqual(calls, ['pause', 'resume']);
  });

  it('lets more be kept while it has paused: acknowledgements wait behind the data', () => {
    const throttle = new CarrierThrottle(100);
    assert.equal(throttle.maxUnackedBytes, 100);
    throttle.onReceived(101, undefined);
    assert.equal(throttle.maxUnackedBytes, 16 * 1024 * 1024);
    throttle.reset();
    assert.equal(throttle.maxUnackedBytes, 100);
  });
});
