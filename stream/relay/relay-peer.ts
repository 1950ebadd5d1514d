import { endReasons, reasonOfCloseCode } from '../../protocol/end-reason.ts';
import { relayCloseCodes } from '../../protocol/relay-frame.ts';
import type { Carrier, CarrierEnd } from '../carrier.ts';
import { connectionReset } from '../close.ts';
import { TunnelEnded, endText, receivedEnd } from '../tunnel-ended.ts';

/** The close code of `postern.relay.v1` for a tunnel that was aborted and must not be resumed. */
export const abortedCloseCode = 4410;

/** The code and the reason of the Close frame. */
export type CloseReason = readonly [code: number, reason: string];

export interface RelayPeerOptions {
  /** Whether the peer has windows, EOF and pings (`postern.relay.v1`), or none of them (relay v4). */
  readonly isV4: boolean;
  readonly windowBytes: number;
  /** Whether the peer is a gateway, which says why it ends a tunnel. Default: no. */
  readonly hearsReasons?: boolean;
}

/** What the peer's protocol can express: `postern.relay.v1` all of it, relay v4 (docs/entry/relay.md) little. */
export interface RelayPeer {
  /** Bytes that each side can leave unacknowledged; Infinity where the protocol has no window. */
  readonly windowBytes: number;
  /** Bytes that are acknowledged at once. */
  readonly ackThresholdBytes: number;
  /** Whether one direction can end alone, by an EOF frame; otherwise a Close frame ends both, whichever side sends it. */
  readonly hasEof: boolean;
  /** Whether it answers pings. */
  readonly answersPings: boolean;
  /** Whether it sends what was not acknowledged again on the next carrier; some peers of relay v4 never do. */
  readonly resends: boolean;
  /** Whether it is a gateway, whose close codes say why it ends a tunnel. The same codes from a client are an abort. */
  readonly givesReasons: boolean;
  /** How it is told of an abort. */
  readonly abortReason: CloseReason;
  /** Holds the peer back where it has no window. */
  readonly throttle?: CarrierThrottle;
}

/** The traits of a peer; `windowBytes` is the configured window, or what relay v4 has for one. */
export function relayPeer(options: RelayPeerOptions): RelayPeer {
  const { isV4, windowBytes, hearsReasons: givesReasons = false } = options;
  if (!isV4)
    return {
      windowBytes,
      ackThresholdBytes: Math.floor(windowBytes / 8),
      hasEof: true,
      answersPings: true,
      resends: true,
      givesReasons,
      abortReason: [abortedCloseCode, 'ABORTED'],
    };
  return {
    windowBytes: Infinity,
    ackThresholdBytes: 32 * 1024,
    hasEof: false,
    answersPings: false,
    resends: false,
    givesReasons,
    abortReason: [relayCloseCodes.TARGET_LOST, ''],
    throttle: new CarrierThrottle(windowBytes),
  };
}

/** How the peer is told that the stream was destroyed, with an error or without. */
export function closeReasonFor(
  error: Error | null,
  { isOrderly, peer }: { readonly isOrderly: boolean; readonly peer: RelayPeer },
): CloseReason {
  if (error instanceof TunnelEnded) return [endReasons[error.reason].closeCode, endText(error)];
  return isOrderly ? [1000, ''] : peer.abortReason;
}

/** What the end of a carrier means for its tunnel: an error that ends it, the end of both directions, or a wait for another. */
export function outcomeOf(end: CarrierEnd, peer: RelayPeer): Error | 'peerClosed' | 'detached' {
  if (end.how === 'violation') return end.error;
  if (end.how !== 'closed') return 'detached';
  if (!peer.hasEof) return 'peerClosed';
  const reason = reasonOfCloseCode(end.code);
  if (reason) return peer.givesReasons ? receivedEnd(reason, end.reason) : connectionReset();
  return isFinal(end.code) ? connectionReset() : 'detached';
}

/** Whether a close code ends a tunnel of `postern.relay.v1`; all others can come from an intermediary. */
function isFinal(code: number): boolean {
  return code === abortedCloseCode || (Object.values(relayCloseCodes) as readonly number[]).includes(code);
}

/**
 * While the peer's data, which is not being read, keeps its acknowledgements from arriving, this much can be kept: as much
 * as the buffers of two kernels can hold of the data before them. A target that answers everything it receives (`cat`)
 * reads nothing while its answers are not read; with less, each would wait for the other for ever.
 */
const maxStuckBytes = 16 * 1024 * 1024;

/** Back-pressure by the connection itself: a carrier is not read while more than `limitBytes` of its data are unread. */
export class CarrierThrottle {
  readonly #limitBytes: number;
  #state: 'reading' | 'paused' = 'reading';

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** How many bytes can be kept for sending again. While paused, acknowledgements wait behind the data, so more can. */
  get maxUnackedBytes(): number {
    return this.#state === 'paused' ? Math.max(this.#limitBytes, maxStuckBytes) : this.#limitBytes;
  }

  /** Pauses the carrier when too much is unread; returns whether it is. */
  onReceived(unreadBytes: number, carrier: Carrier | undefined): boolean {
    if (unreadBytes <= this.#limitBytes) return false;
    this.#state = 'paused';
    carrier?.pause();
    return true;
  }

  /** Reads on when enough has been read. */
  onRead(unreadBytes: number, carrier: Carrier | undefined): void {
    if (this.#state === 'reading' || unreadBytes > this.#limitBytes) return;
    this.#state = 'reading';
    carrier?.resume();
  }

  /** The carrier is another one, which is read. */
  reset(): void {
    this.#state = 'reading';
  }
}
