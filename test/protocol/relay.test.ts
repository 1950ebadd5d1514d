import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { Relay, relaySteps, stepRelay } from '../../protocol/relay.ts';
import type { RelayEvent, RelayState } from '../../protocol/relay.ts';
import { RelayViolation } from '../../protocol/relay-frame.ts';
import { assertRefused, Model, seen } from './relay-model.ts';

const sequences = process.env.POSTERN_LONG ? 100_000 : 3000;
const mostWritten = 40;

/** A relay in that state that has sent 5 bytes, 2 of them acknowledged, and received 3, 2 of them acknowledged. */
function relayIn(state: RelayState): Relay {
  const relay = new Relay({ windowBytes: 10, peerWindowBytes: 10 });
  relay.attach({ peerReceived: 0, from: 0 });
  relay.write(Buffer.from('01234'));
  relay.next(100);
  relay.onAck(2);
  relay.receive(Buffer.from('abc'));
  relay.recordAckSent(2);
  if (state === 'detached') relay.detach();
  if (state === 'closed') relay.close();
  return relay;
}

describe('the states of a relay', () => {
  const events = ['attached', 'carrierLost', 'ended'] as const satisfies readonly RelayEvent[];
  const expected: Record<RelayState, Partial<Record<RelayEvent, RelayState>>> = {
    detached: { attached: 'attached', ended: 'closed' },
    attached: { attached: 'attached', carrierLost: 'detached', ended: 'closed' },
    closed: {},
  };
  for (const state of Object.keys(relaySteps) as RelayState[])
    for (const event of events) {
      const next = expected[state][event];
      it(`${event} while ${state}: ${next ?? 'refused'}`, () => {
        if (next === undefined) assert.throws(() => stepRelay(state, event), TypeError);
        else assert.equal(stepRelay(state, event), next);
      });
    }

  const inputs: Readonly<Record<string, (relay: Relay) => unknown>> = {
    write: (relay) => relay.write(Buffer.from('x')),
    end: (relay) => relay.end(),
    next: (relay) => relay.next(9),
    receive: (relay) => relay.receive(Buffer.from('d')),
    receiveEof: (relay) => relay.receiveEof(3),
    onAck: (relay) => relay.onAck(4),
    recordAckSent: (relay) => relay.recordAckSent(2),
    attach: (relay) => relay.attach({ peerReceived: 3, from: 1 }),
    detach: (relay) => relay.detach(),
    close: (relay) => relay.close(),
  };
  const allowed: Readonly<Record<RelayState, readonly string[]>> = {
    detached: ['write', 'end', 'next', 'recordAckSent', 'attach', 'close'],
    attached: Object.keys(inputs),
    closed: ['end', 'next', 'recordAckSent', 'close'],
  };
  for (const state of Object.keys(relaySteps) as RelayState[])
    for (const [name, input] of Object.entries(inputs)) {
      const isAllowed = allowed[state].includes(name);
      it(`${name} while ${state}: ${isAllowed ? 'taken' : 'refused, and nothing changes'}`, () => {
        const relay = relayIn(state);
        if (!isAllowed) return assertRefused(relay, () => input(relay));
        input(relay);
        if (state === 'closed') assert.deepEqual(seen(relay), seen(relayIn('closed')));
      });
    }

  const impossible: Readonly<Record<string, (relay: Relay) => unknown>> = {
    'an acknowledgement backwards': (relay) => relay.onAck(1),
    'an acknowledgement of what was not sent': (relay) => relay.onAck(6),
    'an acknowledgement below zero': (relay) => relay.onAck(-1),
    'an acknowledgement of half a byte': (relay) => relay.onAck(2.5),
    'an acknowledgement of no number': (relay) => relay.onAck(NaN),
    'an acknowledgement at 2^53': (relay) => relay.onAck(2 ** 53),
    'an acknowledgement at 2^64': (relay) => relay.onAck(2 ** 64),
    'an acknowledgement at infinity': (relay) => relay.onAck(Infinity),
    'more than the window': (relay) => relay.receive(Buffer.alloc(10)),
    'an end before the last byte': (relay) => relay.receiveEof(2),
    'an end behind the last byte': (relay) => relay.receiveEof(4),
    'an end at no number': (relay) => relay.receiveEof(NaN),
    'to acknowledge what has not arrived': (relay) => relay.recordAckSent(4),
    'a carrier that goes on behind what has come': (relay) => relay.attach({ peerReceived: 2, from: 4 }),
    'a carrier that goes on below zero': (relay) => relay.attach({ peerReceived: 2, from: -1 }),
    'a carrier that goes on at 2^53': (relay) => relay.attach({ peerReceived: 2, from: 2 ** 53 }),
    'a carrier whose peer has forgotten something': (relay) => relay.attach({ peerReceived: 1, from: 3 }),
    'a carrier whose peer has received what was not sent': (relay) =>
      relay.attach({ peerReceived: 6, from: 3 }),
  };
  for (const [what, input] of Object.entries(impossible))
    it(`${what} is refused, and nothing changes`, () => {
      const relay = relayIn('attached');
      assertRefused(relay, () => input(relay));
    });

  it('after the end no data can come, on the same carrier or on one that starts before', () => {
    const relay = relayIn('attached');
    relay.receiveEof(3);
    assertRefused(relay, () => relay.receive(Buffer.from('d')));
    assertRefused(relay, () => relay.receiveEof(3));
    relay.attach({ peerReceived: 2, from: 1 });
    assertRefused(relay, () => relay.receive(Buffer.from('bcd')));
    assertRefused(relay, () => relay.receiveEof(3));
    assert.equal(relay.receive(Buffer.from('bc')).length, 0);
    assert.equal(relay.receiveEof(3), false);
    assertRefused(relay, () => relay.receive(Buffer.from('d')));
  });

  it('an end that comes too early on a carrier that starts before is refused', () => {
    const relay = relayIn('attached');
    relay.attach({ peerReceived: 2, from: 0 });
    assertRefused(relay, () => relay.receiveEof(0));
    assertRefused(relay, () => relay.receiveEof(3));
  });

  it('nothing is written after the end', () => {
    const relay = relayIn('attached');
    relay.end();
    assertRefused(relay, () => relay.write(Buffer.from('x')));
  });
});

/** What the adversary does next. */
type Step = readonly [name: keyof typeof actions, which: number, size: number];

const actions = {
  write: (model: Model, which: number, size: number) => ends(model, which).write(size),
  end: (model: Model, which: number) => ends(model, which).end(),
  say: (model: Model, which: number, size: number) => ends(model, which).send(Math.max(1, size)),
  pump: (model: Model, which: number, size: number) => void ends(model, which).sendAll(Math.max(1, size)),
  read: (model: Model, which: number, size: number) => ends(model, which).read(size),
  acknowledge: (model: Model, which: number) => ends(model, which).acknowledge(),
  deliver: (model: Model, which: number, size: number) =>
    void model.deliver(which, size % 2 === 0 ? 'client' : 'gateway'),
  // The newest connection, in a run: else hardly anything would get through.
  flow(model: Model, which: number, size: number) {
    const newest = model.carriers.length - 1;
    const to = which % 2 === 0 ? 'client' : 'gateway';
    for (let count = 0; count < size; count++) model.deliver(newest, to);
  },
  requestCarrier: (model: Model) => model.requestCarrier(),
  answer: (model: Model, which: number, size: number) => model.answer(which, { twice: size % 3 === 0 }),
  cut: (model: Model, which: number, size: number) => model.cut(which, { loses: size % 2 === 0 }),
  cutNewest: (model: Model, _which: number, size: number) =>
    model.cut(model.carriers.length - 1, { loses: size % 2 === 0 }),
  forge: (model: Model, which: number, size: number) => forge(ends(model, which), size),
} as const;

function ends(model: Model, which: number) {
  return which % 2 === 0 ? model.client : model.gateway;
}

/** Something that cannot be, at one of the ends. */
function forge({ relay, arrived, sawEnd, peer }: Model['client'], size: number): void {
  const beyond = peer.relay.ackSent + size + relay.unackedBytes + relay.acknowledged + 10_000;
  assertRefused(relay, () => relay.onAck(beyond));
  assertRefused(relay, () => relay.onAck(relay.acknowledged - 1 - size));
  assertRefused(relay, () => relay.receiveEof(arrived + 1 + size));
  assertRefused(relay, () => relay.attach({ peerReceived: relay.acknowledged, from: relay.received + 1 }));
  assertRefused(relay, () => relay.attach({ peerReceived: beyond, from: relay.received }));
  assertRefused(relay, () => relay.recordAckSent(relay.received + 1));
  if (sawEnd) assertRefused(relay, () => relay.receive(Buffer.alloc(1000)));
}

const names = Object.keys(actions) as (keyof typeof actions)[];
/** `end` and the cuts are rare, so that something happens between them. */
const weights: Partial<Record<keyof typeof actions, number>> = {
  end: 1,
  cut: 3,
  cutNewest: 3,
  requestCarrier: 5,
};
const step: fc.Arbitrary<Step> = fc.tuple(
  fc.oneof(...names.map((name) => ({ weight: weights[name] ?? 8, arbitrary: fc.constant(name) }))),
  fc.nat({ max: 11 }),
  fc.nat({ max: mostWritten }),
);

describe('two relays and an adversary between them', () => {
  it(`what arrives is what was sent, once and in order, whatever happens (${sequences} sequences)`, () => {
    const counts = { replayed: 0, delivered: 0, carriers: 0 };
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 64 }),
        fc.array(step, { maxLength: 150, size: 'max' }),
        (windowBytes, steps) => {
          const model = new Model(windowBytes);
          for (const [name, which, size] of steps) {
            actions[name](model, which, size);
            model.client.check(mostWritten);
            model.gateway.check(mostWritten);
          }
          model.finish();
          for (const end of [model.client, model.gateway]) {
            end.check(mostWritten);
            assert.equal(end.arrived, end.peer.written, 'all of it');
            assert.ok(end.sawEnd, 'and the end');
            assert.ok(end.relay.isDelivered, 'and both know');
            assert.equal(end.relay.unackedBytes, 0);
            counts.delivered += end.arrived;
          }
          counts.carriers += model.carriers.length;
        },
      ),
      { numRuns: sequences, interruptAfterTimeLimit: 300_000, markInterruptAsFailure: true },
    );
    // The adversary does not keep everything from happening.
    assert.ok(counts.delivered > sequences * 20, `${counts.delivered} bytes`);
    assert.ok(counts.carriers > sequences * 3, `${counts.carriers} connections`);
  });

  it('a relay without windows takes and gives everything', () => {
    const relay = new Relay({ windowBytes: Infinity, peerWindowBytes: Infinity });
    relay.attach({ peerReceived: 0, from: 0 });
    relay.write(Buffer.alloc(5_000_000));
    let sent = 0;
    for (let next = relay.next(16_384); next !== undefined; next = relay.next(16_384))
      if (next.kind === 'data') sent += next.bytes.length;
    assert.equal(sent, 5_000_000);
    assert.equal(relay.receive(Buffer.alloc(5_000_000)).length, 5_000_000);
  });

  it('a violation has the code to close with', () => {
    const relay = new Relay({ windowBytes: 1, peerWindowBytes: 1 });
    relay.attach({ peerReceived: 0, from: 0 });
    assert.equal(
      closeCodeOf(() => relay.onAck(1)),
      4005,
    );
    assert.equal(
      closeCodeOf(() => relay.receive(Buffer.alloc(2))),
      4013,
    );
    assert.equal(
      closeCodeOf(() => relay.receiveEof(9)),
      4013,
    );
  });
});

function closeCodeOf(input: () => unknown): number | undefined {
  try {
    input();
  } catch (error) {
    return (error as RelayViolation).closeCode;
  }
  return undefined;
}
