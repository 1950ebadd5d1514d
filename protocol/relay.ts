import type { Buffer } from 'node:buffer';
import { ReplayBuffer } from './replay-buffer.ts';
import { RelayViolation, relayCloseCodes } from './relay-frame.ts';

/*
 * Theory of operation
 *
 * A tunnel is two byte streams, one each way, that outlive the connections (carriers) they travel on. Both ends run the code
 * below; neither knows connections or time. Bytes are numbered from 0 for each direction and over all carriers. The EOF
 * takes one position after the last byte, so that it can be acknowledged like a byte. Data frames do not carry their
 * position: on a carrier, they follow one another without gaps from the position agreed on when it was attached.
 *
 * The sender of a direction keeps three counters, the receiver three of its own:
 *
 *      replay.start     acknowledged          next           highestSent        replay.end
 *           |                |                 |                  |                 |
 *     ------+================+=================+==================+=================+--->  position
 *   dropped |      kept      |  kept: sent on  |  kept: sent on   |   kept: never   |
 *           |                |  this carrier   |  an earlier one  |      sent       |
 *
 *   acknowledged   the peer has confirmed everything before it; only ever grows
 *   next           the next position to send on this carrier; falls back to `acknowledged` when the carrier is lost
 *   highestSent    the highest position ever sent on any carrier: no valid acknowledgement is beyond it
 *
 *   ackSent <= received          acknowledged by us <= everything that has arrived; the bytes between were not read yet
 *   arriving                     where the data of this carrier stands; behind `received` while known bytes are sent again
 *
 * The invariant:  acknowledged <= highestSent,  and every position from min(acknowledged, next) to replay.end is kept.
 * So whatever a new carrier is asked to start from, from the last acknowledgement on, can be sent, and no byte is lost or
 * delivered twice. `next` can be behind `acknowledged`: a peer can acknowledge on this carrier what it received on the one
 * before and has not been sent again yet. Those bytes are kept until they have been, because a carrier leaves no gaps.
 *
 * The window: next - acknowledged <= peerWindowBytes for data. The peer acknowledges what its reader has read, not what has
 * arrived, so that the window limits both what is in flight and what a slow reader costs.
 *
 * States (`relaySteps`; docs/entry/relay.md shows them as a picture):
 *
 *   detached   no carrier: writing is possible, nothing is sent, and no frame can arrive. A tunnel begins here, because
 *              its first carrier is attached like any other.
 *   attached   one carrier. Attaching another replaces it: a client can resume before it notices a loss.
 *   closed     nothing is kept. There is no half-closed state: each direction's EOF is a position, not an event.
 *
 * There is one error for the peer's mistakes, `RelayViolation`, which ends the tunnel with its close code; a mistake of the
 * caller is a `TypeError`. Both leave everything as it was.
 */

/** The transitions of one end of a resumable tunnel. */
export const relaySteps = {
  detached: { attached: 'attached', ended: 'closed' },
  attached: { attached: 'attached', carrierLost: 'detached', ended: 'closed' },
  closed: {},
} as const satisfies Record<string, Record<string, string>>;

export type RelayState = keyof typeof relaySteps;
export type RelayEvent = 'attached' | 'carrierLost' | 'ended';

/** The state after `event`. Throws `TypeError` for an event that cannot happen in this state. */
export function stepRelay(state: RelayState, event: RelayEvent): RelayState {
  const next = (relaySteps[state] as Partial<Record<RelayEvent, RelayState>>)[event];
  if (next === undefined) throw new TypeError(`${event} while ${state}`);
  return next;
}

export interface RelayOptions {
  /** How many bytes can be sent beyond the peer's last acknowledgement; Infinity: any number. */
  readonly peerWindowBytes: number;
  /** How many bytes the peer can send beyond our last acknowledgement; more is a violation. */
  readonly windowBytes: number;
}

/** The next frame to send: data, or the EOF with its position. */
export type Outgoing =
  { readonly kind: 'data'; readonly bytes: Buffer } | { readonly kind: 'end'; readonly at: number };

/** One end of a resumable tunnel: bytes that were sent and may have to be sent again, and how far the peer's have arrived. */
export class Relay {
  readonly #windowBytes: number;
  readonly #peerWindowBytes: number;
  readonly #replay = new ReplayBuffer();
  #state: RelayState = 'detached';
  /** The next position to send on this carrier, and the highest ever sent on any. */
  #next = 0;
  #highestSent = 0;
  /** The peer has acknowledged everything before this position. */
  #acknowledged = 0;
  /** The position of our EOF, once it was added; it can be unsent. */
  #outgoingEof: number | undefined;
  /** Where the carrier's data stands, and how far the peer's data has arrived on any. */
  #arriving = 0;
  #received = 0;
  #incomingEof: number | undefined;
  /** The position of the last acknowledgement that was sent, on any carrier. */
  #ackSent = 0;

  constructor({ windowBytes, peerWindowBytes }: RelayOptions) {
    this.#windowBytes = windowBytes;
    this.#peerWindowBytes = peerWindowBytes;
  }

  get state(): RelayState {
    return this.#state;
  }

  /** How far the peer's data has arrived; its EOF counts as one. */
  get received(): number {
    return this.#received;
  }

  /** How far the peer has acknowledged our data. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** How far we have acknowledged the peer's data: where the data of a new carrier starts. */
  get ackSent(): number {
    return this.#ackSent;
  }

  /** Bytes that are kept because they may have to be sent again. */
  get unackedBytes(): number {
    return this.#replay.end - this.#replay.start;
  }

  /** Whether the peer has acknowledged everything, the EOF too. */
  get isDelivered(): boolean {
    return this.#outgoingEof !== undefined && this.#acknowledged > this.#outgoingEof;
  }

  /** Whether the peer's EOF has arrived. */
  get hasEnded(): boolean {
    return this.#incomingEof !== undefined;
  }

  /** Adds bytes to be sent. Keeps a copy. Throws `TypeError` after the EOF, and when closed. */
  write(bytes: Buffer): void {
    if (this.#outgoingEof !== undefined || this.#state === 'closed')
      throw new TypeError('write after the end');
    this.#replay.append(bytes);
  }

  /** Adds the EOF. */
  end(): void {
    this.#outgoingEof ??= this.#replay.end;
  }

  /** The next frame for the carrier, of at most `maxBytes` bytes; undefined when there is none, or no room in the window. */
  next(maxBytes: number): Outgoing | undefined {
    if (this.#state !== 'attached') return undefined;
    if (this.#next < this.#replay.end) return this.#nextData(maxBytes);
    if (this.#outgoingEof === undefined || this.#next > this.#outgoingEof) return undefined;
    this.#advance(this.#outgoingEof + 1);
    return { kind: 'end', at: this.#outgoingEof };
  }

  /** Receives data from the carrier; returns the part that is new. Throws `RelayViolation`. */
  receive(bytes: Buffer): Buffer {
    this.#expectCarrier();
    const arriving = this.#arriving + bytes.length;
    if (arriving > (this.#incomingEof ?? Infinity)) throw violation('data after the end');
    if (arriving - this.#ackSent > this.#windowBytes) throw violation('more than the window holds');
    const fresh = bytes.subarray(Math.min(bytes.length, this.#received - this.#arriving));
    this.#arriving = arriving;
    this.#received = Math.max(this.#received, arriving);
    return fresh;
  }

  /** Receives the EOF from the carrier; returns whether it is new. Throws `RelayViolation`. */
  receiveEof(at: number): boolean {
    this.#expectCarrier();
    if (at !== this.#arriving || (this.#incomingEof ?? this.#received) !== at)
      throw violation('an end at another position');
    const isNew = this.#incomingEof === undefined;
    this.#incomingEof = at;
    this.#arriving = at + 1;
    this.#received = at + 1;
    return isNew;
  }

  /** Receives an acknowledgement of everything before `at`. Throws `RelayViolation`. */
  onAck(at: number): void {
    this.#expectCarrier();
    this.#expectAcknowledgement(at);
    this.#acknowledged = at;
    this.#discardAcked();
  }

  /** Whether the peer can have received everything before `at`. */
  isValidAck(at: number): boolean {
    return Number.isSafeInteger(at) && at >= this.#acknowledged && at <= this.#highestSent;
  }

  /** Records that everything before `at` is acknowledged; never goes back. */
  recordAckSent(at: number): void {
    if (at > this.#received) throw new TypeError('an acknowledgement of what has not arrived');
    this.#ackSent = Math.max(this.#ackSent, at);
  }

  /**
   * Continues on a new carrier, in the place of the one before, if any: the peer has received everything before
   * `peerReceived`, and its first byte on this carrier will stand at `from`. Returns how many bytes will be sent again.
   * Throws `RelayViolation`, and then changes nothing.
   */
  attach({ peerReceived, from }: { readonly peerReceived: number; readonly from: number }): number {
    const state = stepRelay(this.#state, 'attached');
    // What lies between could never arrive.
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

  /** The carrier was lost. What was sent on it and not acknowledged will be sent again. */
  detach(): void {
    this.#state = stepRelay(this.#state, 'carrierLost');
    this.#next = this.#acknowledged;
    this.#discardAcked();
    this.trim();
  }

  /** Frees memory that is kept for bytes to come. */
  trim(): void {
    this.#replay.trim();
  }

  /** Ends the tunnel; nothing is kept any more. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#state = stepRelay(this.#state, 'ended');
    this.#replay.dropBefore(this.#replay.end);
  }

  /** A frame without a carrier is a mistake of the caller. */
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

  /** Drops what will not be sent again: what was acknowledged, but for what has yet to be sent on this carrier. */
  #discardAcked(): void {
    this.#replay.dropBefore(Math.min(this.#acknowledged, this.#next, this.#replay.end));
  }

  #nextData(maxBytes: number): Outgoing | undefined {
    const room = this.#acknowledged + this.#peerWindowBytes - this.#next;
    const bytes = this.#replay.read(this.#next, Math.min(maxBytes, this.#peerWindowBytes));
    // Never a part to fill the window: an acknowledgement is on its way, and makes room for the whole.
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
