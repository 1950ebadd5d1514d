import type { Relay } from '../../protocol/relay.ts';

/** Received bytes are acknowledged after this time at the latest. */
const ackDelayMs = 200;

export interface AckSchedulerOptions {
  readonly relay: Relay;
  /** Bytes the reader has taken that are acknowledged at once. */
  readonly thresholdBytes: number;
  /** Knows how many bytes have arrived and were not read. */
  readonly reader: { readonly unreadBytes: number };
  /** Whether there is a carrier to send acknowledgements on. */
  readonly isAttached: () => boolean;
  /** Sends an acknowledgement of everything before position `at`, where there is a carrier. */
  readonly send: (at: number) => void;
}

/**
 * Decides when the peer's bytes are acknowledged. Bytes the reader has not taken yet do not count, so that a window is also
 * what a slow reader can cost.
 */
export class AckScheduler {
  readonly #relay: Relay;
  readonly #thresholdBytes: number;
  readonly #reader: { readonly unreadBytes: number };
  readonly #isAttached: () => boolean;
  readonly #send: (at: number) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor({ relay, thresholdBytes, reader, isAttached, send }: AckSchedulerOptions) {
    this.#relay = relay;
    this.#thresholdBytes = thresholdBytes;
    this.#reader = reader;
    this.#isAttached = isAttached;
    this.#send = send;
  }

  /** Acknowledges what is due: at once when that is much, in a moment when there is a carrier to send it on. */
  maybeAck(): void {
    const due = this.#position - this.#relay.ackSent;
    if (due >= this.#thresholdBytes) this.sendAck();
    // What the reader is about to take is counted when the timer fires.
    else if (this.#relay.received > this.#relay.ackSent && this.#isAttached())
      this.#timer ??= this.#scheduleAck();
  }

  /** Acknowledges what is due now, and stops the timer. */
  sendAck(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const before = this.#relay.ackSent;
    this.#relay.recordAckSent(this.#position);
    if (this.#relay.ackSent !== before) this.#send(this.#relay.ackSent);
  }

  /** Everything before it has been read. */
  get #position(): number {
    return this.#relay.received - this.#reader.unreadBytes;
  }

  #scheduleAck(): NodeJS.Timeout {
    const timer = setTimeout(() => this.sendAck(), ackDelayMs);
    timer.unref();
    return timer;
  }
}
