import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Relay } from '../../../protocol/relay.ts';
import { WriteSide } from '../../../stream/relay/write-side.ts';

function writeSide() {
  const relay = new Relay({ windowBytes: 1 << 20, peerWindowBytes: 1 << 20 });
  relay.attach({ peerReceived: 0, from: 0 });
  const budget = { kept: 0, isOver: false, add: (bytes: number) => void (budget.kept += bytes) };
  const side = new WriteSide({ relay, maxUnackedBytes: () => 100_000, budget });
  const events: string[] = [];
  const note = (name: string) => (error?: Error | null) => void events.push(error ? `${name}!` : name);
  const sendAll = (): void => {
    while (relay.next(1 << 20));
  };
  return { relay, budget, side, events, note, sendAll };
}

describe('WriteSide', () => {
  it('completes a write when there is room, and tells the budget what is kept', () => {
    const { relay, budget, side, events, note, sendAll } = writeSide();
    side.write(Buffer.alloc(99_999), note('first'));
    side.account();
    side.write(Buffer.alloc(1), note('second'));
    side.account();
    assert.deepEqual(events, ['first']);
    assert.equal(budget.kept, 100_000);
    sendAll();
    relay.onAck(10);
    side.account();
    assert.deepEqual(events, ['first', 'second']);
  });

  it('keeps next to nothing more while the budget is over its limit', () => {
    const { budget, side, events, note } = writeSide();
    budget.isOver = true;
    side.write(Buffer.alloc(64 * 1024), note('write'));
    side.account();
    assert.deepEqual(events, []);
    budget.isOver = false;
    side.account();
    assert.deepEqual(events, ['write']);
  });

  it('finishes when everything was acknowledged, the EOF too', () => {
    const { relay, side, events, note, sendAll } = writeSide();
    side.write(Buffer.alloc(5), note('write'));
    side.account();
    side.end(note('end'));
    sendAll();
    relay.onAck(5);
    side.finishIfDelivered();
    assert.deepEqual(events, ['write']);
    relay.onAck(6);
    side.finishIfDelivered();
    assert.deepEqual(events, ['write', 'end']);
  });

  it('completes what is pending with an error, once', () => {
    const { side, events, note } = writeSide();
    side.write(Buffer.alloc(200_000), note('write'));
    side.account();
    side.complete(new Error('x'));
    side.complete(new Error('x'));
    assert.deepEqual(events, ['write!']);
  });
});
