import type { Buffer } from 'node:buffer';
import { ReplayBuffer } from './replay-buffer.ts';
import { RelayViolation, relayCloseCodes } from './relay-frame.ts';

/** The life of one end of a resumable tunnel. `docs/entry/relay.md` shows it as a picture. */
export const relaySteps = {
  detached: { attached: 'attached', ended: 'closed' },
  attached: { attached: 'attached', carrierLost: 'detached', ended: 'closed' },
  closed: {},
} as const satisfies Record<string, Record<string, string>>;

export type RelayState = keyof typeof relaySteps;
export type RelayEvent = 'attached' | 'carrierLost' | 'ended';

/** The state after `event`. Throws `TypeError` for an event that cannot come in this state. */
export function stepRelay(state: RelayState, event: RelayEvent): RelayState {
  const next = (relaySteps[state] as Partial<Record<RelayEvent, RelayState>>)[event];
  if (next === undefined) throw new TypeError(`${event} while ${state}`);
  return next;
}

export interface RelayOptions {
  /** How many bytes the other end takes before it acknowledges some; Infinity: as many as come. */
  readonly peerWindowBytes: number;
  /** How many bytes it may send before we acknowledge some; more is a violation. */
  readonly windowBytes: number;
}

/** The next thing to say: data, or the EOF that stands at a position. */
export type Outgoing =
  { readonly kind: 'data'; readonly bytes: Buffer } | { readonly kind: 'end'; readonly at: number };

/**
 * One end of a resumable tunnel: what was sent and may have to be sent again, and what has arrived. Carriers come and
 * go; the bytes of the tunnel do not repeat and none is missing. Knows no connection and no time.
 */
export class Relay {
  readonly #windowBytes: number;
  readonly #peerWindowBytes: number;
  readonly #replay = new ReplayBuffer();
  #state: RelayState = 'detached';
  /** The next position to say on this carrier, and the highest ever said on any. */
  #next = 0;
  #highestSent = 0;
  /** The other end has taken everything before this position. */
  #acknowledged = 0;
  #outgoingEnd: number | undefined;
  /** Where the carrier's data stands, and how far it has been taken; the first may be behind after a change of carriers. */
  #arriving = 0;
  #received = 0;
  #incomingEnd: number | undefined;
  /** The position of the last acknowledgement that was said, on any carrier. */
  #ackSent = 0;

  constructor({ windowBytes, peerWindowBytes }: RelayOptions) {
    this.#windowBytes = windowBytes;
    this.#peerWindowBytes = peerWindowBytes;
  }

  get state(): RelayState {
    return this.#state;
  }

  /** How far the other end's data has arrived; its EOF counts as one. */
  get received(): number {
    return this.#received;
  }

  /** How far the other end has taken what we sent, as far as we know. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** How far we have said that we have taken what has arrived: where a new carrier's data starts. */
  get ackSent(): number {
    return this.#ackSent;
  }

  /** Bytes that are kept because they may have to be sent again. */
  get unackedBytes(): number {
    return this.#replay.end - this.#replay.start;
  }

  /** Whether everything has been taken by the other end, the EOF too. */
  get isDelivered(): boolean {
    return this.#outgoingEnd !== undefined && this.#acknowledged > this.#outgoingEnd;
  }

  /** Whether the other end's EOF has come. */
  get hasEnded(): boolean {
    return this.#incomingEnd !== undefined;
  }

  /** Adds bytes to be sent. A copy of them is kept. */
  write(bytes: Buffer): void {
    if (this.#outgoingEnd !== undefined || this.#state === 'closed')
      throw new TypeError('write after the end');
    this.#replay.append(bytes);
  }

  /** Adds the EOF. */
  end(): void {
    this.#outgoingEnd ??= this.#replay.end;
  }

  /** What to say next on the carrier, at most `most` bytes of it; undefined when there is nothing, or no room over there. */
  next(most: number): Outgoing | undefined {
    if (this.#state !== 'attached') return undefined;
    if (this.#next < this.#replay.end) return this.#nextData(most);
    if (this.#outgoingEnd === undefined || this.#next > this.#outgoingEnd) return undefined;
    this.#advance(this.#outgoingEnd + 1);
    return { kind: 'end', at: this.#outgoingEnd };
  }

  /** Takes data from the carrier, and gives what of it is new. Throws `RelayViolation`. */
  receive(bytes: Buffer): Buffer {
    this.#expectCarrier();
    const arriving = this.#arriving + bytes.length;
    if (arriving > (this.#incomingEnd ?? Infinity)) throw violation('data after the end');
    if (arriving - this.#ackSent > this.#windowBytes) throw violation('more than the window holds');
    const fresh = bytes.subarray(Math.min(bytes.length, this.#received - this.#arriving));
    this.#arriving = arriving;
    this.#received = Math.max(this.#received, arriving);
    return fresh;
  }

  /** Takes the EOF from the carrier; whether it is new. Throws `RelayViolation`. */
  receiveEof(at: number): boolean {
    this.#expectCarrier();
    if (at !== this.#arriving || (this.#incomingEnd ?? this.#received) !== at)
      throw violation('an end at another place');
    const isNew = this.#incomingEnd === undefined;
    this.#incomingEnd = at;
    this.#arriving = at + 1;
    this.#received = at + 1;
    return isNew;
  }

  /** Hears that everything before `at` has been taken over there. Throws `RelayViolation`. */
  onAck(at: number): void {
    this.#expectCarrier();
    this.#expectAcknowledgement(at);
    this.#acknowledged = at;
    this.#discardAcked();
  }

  /** Whether the other end can have taken everything before `at`. */
  isValidAck(at: number): boolean {
    return Number.isSafeInteger(at) && at >= this.#acknowledged && at <= this.#highestSent;
  }

  /** Notes that everything before `at` is said to have been taken. */
  recordAckSent(at: number): void {
    if (at > this.#received) throw new TypeError('told of what has not come');
    this.#ackSent = Math.max(this.#ackSent, at);
  }

  /**
   * Goes on on a new carrier, in the place of the one before, if any: the other end has taken everything before
   * `peerReceived`, and its first byte here will stand at `from`. Returns how many bytes will be sent once more.
   * Throws `RelayViolation`, and changes nothing then.
   */
  attach({ peerReceived, from }: { readonly peerReceived: number; readonly from: number }): number {
    const state = stepRelay(this.#state, 'attached');
    // What lies between could never come.
    if (!Number.isSafeInteger(from) || from < 0 || from > this.#received)
      throw violation('a carrier that leaves bytes out');
    this.#expectAcknowledgement(peerReceived);
    this.#state = state;
    this.#acknowledged = peerReceived;
    this.#next = peerReceived;
    this.#arriving = from;
    this.#discardAcked();
    return this.#highestSent - peerReceived;
  }

  /** The carrier is gone. What was said on it and not acknowledged will be said again. */
  detach(): void {
    this.#state = stepRelay(this.#state, 'carrierLost');
    this.#next = this.#acknowledged;
    this.#discardAcked();
    this.trim();
  }

  /** Gives back memory that is kept for more bytes to come. */
  trim(): void {
    this.#replay.trim();
  }

  /** The tunnel is over; nothing is kept any more. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#state = stepRelay(this.#state, 'ended');
    this.#replay.dropBefore(this.#replay.end);
  }

  /** What is heard on no carrier is a mistake of ours. */
  #expectCarrier(): void {
    if (this.#state !== 'attached') throw new TypeError(`a frame while ${this.#state}`);
  }

  #expectAcknowledgement(at: number): void {
    if (!this.isValidAck(at))
      throw new RelayViolation(
        relayCloseCodes.BAD_ACK,
        'an acknowledgement of what was not sent, or backwards',
      );
  }

  /**
   * Drops what is not to be said any more. That is not all that was acknowledged: the peer may have taken on an old
   * carrier what is still to come on this one, and a carrier leaves nothing out.
   */
  #discardAcked(): void {
    this.#replay.dropBefore(Math.min(this.#acknowledged, this.#next, this.#replay.end));
  }

  #nextData(most: number): Outgoing | undefined {
    const room = this.#acknowledged + this.#peerWindowBytes - this.#next;
    const bytes = this.#replay.read(this.#next, Math.min(most, this.#peerWindowBytes));
    // Never in pieces to fill a window: an acknowledgement is on its way, and makes room for the whole.
    if (bytes.length === 0 || bytes.length > room) return undefined;
    this.#advance(this.#next + bytes.length);
    this.#discardAcked();
    return { kind: 'data', bytes };
  }

  #advance(position: number): void {
    this.#next = position;
    this.#highestSent = Math.max(this.#highestSent, position);
  }
}

function violation(what: string): RelayViolation {
  return new RelayViolation(relayCloseCodes.INVALID_DATA, what);
}
