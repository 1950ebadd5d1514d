import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RelayFrame } from '../../protocol/relay-frame.ts';
import type { Carrier } from '../../stream/carrier.ts';
import { KeepAlive, everyInterval } from '../../stream/keep-alive.ts';

interface FakeCarrier {
  readonly carrier: Carrier;
  readonly sent: RelayFrame[];
  readonly state: { waitingBytes: number };
}

function fakeCarrier(onSend: () => void = () => {}): FakeCarrier {
  const sent: RelayFrame[] = [];
  const state = { waitingBytes: 0 };
  const carrier = {
    get waitingBytes() {
      return state.waitingBytes;
    },
    send(frame: RelayFrame) {
      sent.push(frame);
      onSend();
    },
  };
  return { carrier: carrier as unknown as Carrier, sent, state };
}

/** Its timers do not keep the process alive. */
async function awake<T>(work: Promise<T>): Promise<T> {
  const timer = setInterval(() => {}, 1000);
  return work.finally(() => clearInterval(timer));
}

describe('everyInterval()', () => {
  it('calls until it is stopped', async () => {
    let beats = 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    const stop = everyInterval(5, () => ++beats === 3 && resolve());
    await awake(promise);
    stop();
    const before = beats;
    await new Promise((done) => setTimeout(done, 30));
    assert.equal(beats, before);
  });
});

describe('KeepAlive', () => {
  const options = { answersPings: true, onBeat() {}, onDead() {} };

  it('gives a peer up that leaves two pings unanswered, when the third is due', async () => {
    const { carrier, sent } = fakeCarrier();
    const { promise, resolve } = Promise.withResolvers<void>();
    const keepAlive = new KeepAlive({ ...options, intervalMs: 5, onDead: resolve });
    keepAlive.attach(carrier);
    await awake(promise);
    keepAlive.stop();
    assert.deepEqual(sent, [
      { kind: 'ping', id: 0 },
      { kind: 'ping', id: 1 },
    ]);
  });

  it('never gives a peer up that answers no pings by its protocol, and beats before each ping', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { carrier, sent } = fakeCarrier(() => sent.length === 4 && resolve());
    let beats = 0;
    const keepAlive = new KeepAlive({
      answersPings: false,
      intervalMs: 5,
      onBeat: () => beats++,
      onDead: () => assert.fail('given up'),
    });
    keepAlive.attach(carrier);
    await awake(promise);
    keepAlive.stop();
    assert.equal(beats, 4);
  });

  it('answers the last ping when there is room for the answer', () => {
    const { carrier, sent, state } = fakeCarrier();
    const keepAlive = new KeepAlive({ ...options, intervalMs: 60_000 });
    keepAlive.attach(carrier);
    state.waitingBytes = 5000;
    keepAlive.onPing(1);
    keepAlive.onPing(2);
    assert.deepEqual(sent, []);
    state.waitingBytes = 0;
    keepAlive.sendPong();
    keepAlive.sendPong();
    assert.deepEqual(sent, [{ kind: 'pong', id: 2 }]);
    keepAlive.stop();
  });

  it('owes the next carrier no answer to a ping on the one before', () => {
    const [first, second] = [fakeCarrier(), fakeCarrier()];
    const keepAlive = new KeepAlive({ ...options, intervalMs: 60_000 });
    keepAlive.attach(first.carrier);
    first.state.waitingBytes = 5000;
    keepAlive.onPing(1);
    keepAlive.detach();
    keepAlive.attach(second.carrier);
    keepAlive.sendPong();
    assert.deepEqual(second.sent, []);
    keepAlive.stop();
  });

  it('probes only where silence is watched, and on a carrier', () => {
    const { carrier, sent } = fakeCarrier();
    const unwatched = new KeepAlive({ ...options, intervalMs: 60_000 });
    unwatched.attach(carrier);
    unwatched.probe();
    assert.deepEqual(sent, []);
    unwatched.stop();
    const watched = new KeepAlive({ ...options, intervalMs: 60_000, onUnresponsive() {} });
    watched.probe();
    watched.attach(carrier);
    watched.probe();
    assert.deepEqual(sent, [{ kind: 'ping', id: 0 }]);
    watched.stop();
  });
});
