import assert from 'node:assert/strict';
import { Relay } from '../../protocol/relay.ts';
import { RelayViolation } from '../../protocol/relay-frame.ts';
import type { RelayFrame } from '../../protocol/relay-frame.ts';

/**
 * Two relays, the connections between them, and an adversary that decides what happens when. Connections keep their order
 * and nothing else: they end at any moment, at a different time at each end; several exist at once; requests to resume
 * arrive late, twice or never.
 */
export class Model {
  readonly windowBytes: number;
  readonly client: End;
  readonly gateway: End;
  readonly #requests: Request[] = [];
  readonly #carriers: ModelCarrier[] = [];
  #count = 0;
  #newest = 0;
  /** How often the client has resumed: responses to earlier requests are dropped. */
  #resumes = 0;

  constructor(windowBytes: number) {
    this.windowBytes = windowBytes;
    this.client = new End(windowBytes, 0);
    this.gateway = new End(windowBytes, 1);
    this.client.peer = this.gateway;
    this.gateway.peer = this.client;
    this.#join(new ModelCarrier(0), 0, 0);
  }

  get carriers(): readonly ModelCarrier[] {
    return this.#carriers;
  }

  /** The client requests a resume; the position in it can be old when it arrives. */
  requestCarrier(): void {
    if (this.client.relay.state === 'closed') return;
    this.#requests.push({
      received: this.client.recordAckSent(),
      count: ++this.#count,
      round: this.#resumes,
    });
  }

  /** One of the requests arrives, in any order; with `twice`, it can arrive again. */
  answer(which: number, { twice }: { readonly twice: boolean }): void {
    if (this.#requests.length === 0) return;
    const index = which % this.#requests.length;
    const request = this.#requests[index]!;
    if (!twice) this.#requests.splice(index, 1);
    const { relay } = this.gateway;
    // The gateway's checks: newer than every one before, and a possible position.
    if (request.count <= this.#newest) return;
    const peerReceived = Math.max(request.received, relay.acknowledged);
    assert.ok(relay.isValidAck(peerReceived), 'a position that the client has made up');
    this.#newest = request.count;
    this.#join(new ModelCarrier(request.round), peerReceived, this.gateway.recordAckSent());
  }

  /** A frame arrives at one end of a connection, or its end. */
  deliver(which: number, to: 'client' | 'gateway'): boolean {
    const carrier = this.#carriers[which % this.#carriers.length]!;
    const end = this[to];
    const frame = carrier[to].shift();
    // Nothing is received on a connection that was dropped.
    const isCurrent = end.carrier === carrier;
    if (frame === undefined) {
      if (!carrier.isCut || !isCurrent) return false;
      end.lose();
      return true;
    }
    if (frame.kind === 'joined') {
      // The first response to one of the requests is accepted, and the others are dropped.
      if (carrier.round !== this.#resumes) carrier.isCut = true;
      else {
        this.#resumes++;
        end.attach(carrier, frame.received, frame.from!);
      }
    } else if (isCurrent) end.receive(frame);
    return true;
  }

  /** The connection breaks: what is on it gets through, or, a reset, does not. */
  cut(which: number, { loses }: { readonly loses: boolean }): void {
    const carrier = this.#carriers[which % this.#carriers.length]!;
    carrier.isCut = true;
    if (loses) carrier.lose();
  }

  /** The adversary stops: the connections end, and one that works replaces them. */
  finish(): void {
    for (const carrier of this.#carriers) carrier.isCut = true;
    for (let more = true; more;) {
      more = false;
      for (const [which] of this.#carriers.entries())
        for (const to of ['client', 'gateway'] as const) while (this.deliver(which, to)) more = true;
    }
    this.requestCarrier();
    this.answer(this.#requests.length - 1, { twice: false });
    const last = this.#carriers.length - 1;
    this.client.end();
    this.gateway.end();
    for (let rounds = 0, more = true; more; rounds++) {
      assert.ok(rounds < 10_000, 'it goes on for ever');
      more = false;
      for (const end of [this.client, this.gateway]) {
        end.read(Infinity);
        if (end.recordAckSent() > end.acknowledged) end.acknowledge();
        more = end.sendAll(16) || more;
      }
      for (const to of ['client', 'gateway'] as const) while (this.deliver(last, to)) more = true;
    }
  }

  #join(carrier: ModelCarrier, peerReceived: number, from: number): void {
    this.#carriers.push(carrier);
    if (this.gateway.carrier) this.gateway.carrier.isCut = true;
    carrier.send('gateway', { kind: 'joined', received: from, from: peerReceived });
    this.gateway.attach(carrier, peerReceived, from);
  }
}

interface Request {
  readonly received: number;
  readonly count: number;
  readonly round: number;
}

/** Two queues. What is sent after the cut is lost. */
export class ModelCarrier {
  /** Frames in flight to each end. */
  readonly client: RelayFrame[] = [];
  readonly gateway: RelayFrame[] = [];
  readonly round: number;
  isCut = false;

  constructor(round: number) {
    this.round = round;
  }

  send(from: 'client' | 'gateway', frame: RelayFrame): void {
    if (!this.isCut) this[from === 'client' ? 'gateway' : 'client'].push(frame);
  }

  lose(): void {
    this.client.length = 0;
    this.gateway.length = 0;
  }
}

/** A relay with its writer and its reader. */
export class End {
  readonly relay: Relay;
  readonly #windowBytes: number;
  readonly #salt: number;
  peer!: End;
  carrier: ModelCarrier | undefined;
  written = 0;
  hasEnded = false;
  /** Bytes of the peer that have arrived, and how many of them were read. */
  arrived = 0;
  taken = 0;
  sawEnd = false;
  /** What the peer can know: what was acknowledged on this connection, or where it began. */
  acknowledged = 0;

  constructor(windowBytes: number, salt: number) {
    this.relay = new Relay({ windowBytes, peerWindowBytes: windowBytes });
    this.#windowBytes = windowBytes;
    this.#salt = salt;
  }

  get #name(): 'client' | 'gateway' {
    return this.#salt === 0 ? 'client' : 'gateway';
  }

  write(count: number): void {
    // A writer waits at the window, as the stream makes it.
    if (this.hasEnded || this.relay.unackedBytes >= this.#windowBytes) return;
    this.relay.write(this.#bytes(this.written, count));
    this.written += count;
  }

  end(): void {
    this.hasEnded = true;
    this.relay.end();
  }

  /** Sends what there is to send, at most `maxBytes` bytes in a frame; returns whether there was something. */
  sendAll(maxBytes: number): boolean {
    let hasSent = false;
    for (let next = this.relay.next(maxBytes); next !== undefined; next = this.relay.next(maxBytes)) {
      this.carrier!.send(this.#name, next);
      hasSent = true;
    }
    return hasSent;
  }

  /** Sends one frame. */
  send(maxBytes: number): void {
    const next = this.relay.next(maxBytes);
    if (next !== undefined) this.carrier!.send(this.#name, next);
  }

  read(count: number): void {
    this.taken += Math.min(count, this.arrived - this.taken);
  }

  /** Records what was read. */
  recordAckSent(): number {
    this.relay.recordAckSent(this.taken + (this.sawEnd && this.taken === this.arrived ? 1 : 0));
    return this.relay.ackSent;
  }

  acknowledge(): void {
    const at = this.recordAckSent();
    if (at === 0 || this.carrier === undefined) return;
    this.acknowledged = at;
    this.carrier.send(this.#name, { kind: 'ack', at });
  }

  attach(carrier: ModelCarrier, peerReceived: number, from: number): void {
    if (this.carrier) this.carrier.isCut = true;
    this.relay.attach({ peerReceived, from });
    this.carrier = carrier;
    this.acknowledged = from;
  }

  lose(): void {
    this.carrier = undefined;
    this.relay.detach();
  }

  receive(frame: RelayFrame): void {
    if (frame.kind === 'ack') return this.relay.onAck(frame.at);
    if (frame.kind === 'end') return void (this.sawEnd ||= this.relay.receiveEof(frame.at));
    assert.ok(frame.kind === 'data');
    const fresh = this.relay.receive(frame.bytes);
    assert.equal(this.sawEnd && fresh.length > 0, false, 'bytes after the end');
    assert.deepEqual(fresh, this.peer.#bytes(this.arrived, fresh.length));
    this.arrived += fresh.length;
  }

  check(mostWritten: number): void {
    const { relay } = this;
    assert.ok(this.arrived <= this.peer.written, 'more than was written');
    assert.equal(relay.received, this.arrived + (this.sawEnd ? 1 : 0));
    assert.ok(relay.ackSent <= relay.received);
    assert.ok(this.arrived - this.taken <= this.#windowBytes, 'more unread than the window');
    assert.ok(relay.unackedBytes < this.#windowBytes + mostWritten, `${relay.unackedBytes} bytes kept`);
    assert.ok(relay.acknowledged <= this.peer.relay.ackSent, 'acknowledged what was not taken');
    if (this.sawEnd) assert.ok(this.peer.hasEnded && this.arrived === this.peer.written, 'an early end');
  }

  /** The byte at a position: a different one at each, as far as it matters. */
  #bytes(from: number, count: number): Buffer {
    return Buffer.from(
      Uint8Array.from({ length: count }, (_, index) => ((from + index) * 167 + this.#salt * 89) % 251),
    );
  }
}

/** The whole visible state of a relay. */
export function seen({
  state,
  received,
  acknowledged,
  ackSent: told,
  unackedBytes: keptBytes,
  isDelivered,
  hasEnded,
}: Relay) {
  return { state, received, acknowledged, told, keptBytes, isDelivered, hasEnded };
}

/** Asserts that `input` is refused with one of the two errors, and changes nothing. */
export function assertRefused(relay: Relay, input: () => unknown): void {
  const before = seen(relay);
  assert.throws(input, (error) => error instanceof RelayViolation || error instanceof TypeError);
  assert.deepEqual(seen(relay), before);
}
