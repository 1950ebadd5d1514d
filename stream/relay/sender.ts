import type { Relay } from '../../protocol/relay.ts';
import type { Carrier } from '../carrier.ts';
import type { KeepAlive } from '../keep-alive.ts';

/** Bytes that can wait in a connection before the stream waits too. */
export const maxWaitingBytes = 256 * 1024;

/**
 * After a loss, messages are no longer than this until one is acknowledged: of a truncated message nothing arrives, and a
 * network that cuts everything after some kilobytes would get nowhere with long ones.
 */
const cautiousBytes = 4096;

export interface SenderOptions {
  readonly relay: Relay;
  readonly keepAlive: KeepAlive;
  /** Whether the peer's protocol has an EOF frame. */
  readonly hasEof: boolean;
}

/** Sends what a relay has to send, as much as a carrier has room for. */
export class Sender {
  readonly #relay: Relay;
  readonly #keepAlive: KeepAlive;
  readonly #hasEof: boolean;
  /** Bytes of one message, at most. */
  #messageBytes = Infinity;

  constructor({ relay, keepAlive, hasEof }: SenderOptions) {
    this.#relay = relay;
    this.#keepAlive = keepAlive;
    this.#hasEof = hasEof;
  }

  /** Bytes have been lost, and are sent again: in short messages until the first acknowledgement. */
  onLoss(): void {
    this.#messageBytes = cautiousBytes;
  }

  /** The peer has acknowledged something on this carrier, or lost nothing on the one before. */
  onAck(): void {
    this.#messageBytes = Infinity;
  }

  sendPending(carrier: Carrier): void {
    const messageBytes = Math.min(this.#messageBytes, carrier.codec.maxDataBytes);
    while (carrier.waitingBytes < maxWaitingBytes) {
      const outgoing = this.#relay.next(messageBytes);
      if (outgoing === undefined) return;
      // The peer's own Close frame then says that everything has arrived.
      if (outgoing.kind === 'end' && !this.#hasEof) return carrier.end(1000);
      carrier.send(outgoing);
      this.#keepAlive.sent();
    }
  }
}
