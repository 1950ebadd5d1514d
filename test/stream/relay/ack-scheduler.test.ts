import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { Relay } from '../../../protocol/relay.ts';
import { AckScheduler } from '../../../stream/relay/ack-scheduler.ts';

interface Scheduled {
  readonly acks: AckScheduler;
  /** The positions that were acknowledged. */
  readonly sent: number[];
  /** What the test can change. */
  readonly now: { unreadBytes: number; isAttached: boolean };
  readonly receive: (count: number) => void;
}

function scheduler(): Scheduled {
  const relay = new Relay({ windowBytes: 1000, peerWindowBytes: 1000 });
  relay.attach({ peerReceived: 0, from: 0 });
  const sent: number[] = [];
  const now = { unreadBytes: 0, isAttached: true };
  const acks = new AckScheduler({
    relay,
    thresholdBytes: 100,
    reader: now,
    isAttached: () => now.isAttached,
    send: (at) => sent.push(at),
  });
  return { acks, sent, now, receive: (count) => void relay.receive(Buffer.alloc(count)) };
}

describe('AckScheduler', () => {
  it('acknowledges much at once, and counts only what was read', () => {
    const { acks, sent, now, receive } = scheduler();
    receive(150);
    now.unreadBytes = 60;
    acks.maybeAck();
    assert.deepEqual(sent, []);
    now.unreadBytes = 20;
    acks.maybeAck();
    assert.deepEqual(sent, [130]);
    acks.sendAck();
  });

  it('acknowledges little after 200 ms, with all that was read by then', (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    t.after(() => mock.timers.reset());
    const { acks, sent, receive } = scheduler();
    receive(10);
    acks.maybeAck();
    receive(10);
    acks.maybeAck();
    mock.timers.tick(199);
    assert.deepEqual(sent, []);
    mock.timers.tick(1);
    assert.deepEqual(sent, [20]);
  });

  it('starts no timer without a carrier, and sends nothing twice', (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    t.after(() => mock.timers.reset());
    const { acks, sent, now, receive } = scheduler();
    now.isAttached = false;
    receive(10);
    acks.maybeAck();
    mock.timers.tick(1000);
    assert.deepEqual(sent, []);
    acks.sendAck();
    acks.sendAck();
    assert.deepEqual(sent, [10]);
  });
});
