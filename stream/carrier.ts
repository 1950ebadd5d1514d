import type { Release } from '../base/buffer-pool.ts';
import { RelayViolation } from '../protocol/relay-frame.ts';
import type { RelayCodec, RelayFrame } from '../protocol/relay-frame.ts';

/** How a carrier ended; the causes are counted. */
export type CarrierEnd =
  /** By a Close frame with this code. */
  | { readonly how: 'closed'; readonly code: number; readonly reason: string }
  /** By an error of the connection, a reset in most cases. */
  | { readonly how: 'reset' }
  /** By an end of the connection without a Close frame, as intermediaries end it. */
  | { readonly how: 'dropped' }
  /** It left our pings unanswered. */
  | { readonly how: 'silent' }
  /** A newer one has replaced it. */
  | { readonly how: 'replaced' }
  /** The peer broke the rules of the protocol. */
  | { readonly how: 'violation'; readonly error: RelayViolation };

/** Receives what happens on a carrier. */
export interface CarrierListener {
  frame(frame: RelayFrame): void;
  /** Something that was sent has left this process. */
  drained(): void;
  /** Called once; nothing is called afterwards. */
  ended(end: CarrierEnd): void;
}

/** One connection that carries the frames of a resumable tunnel. It owns the connection from its construction on. */
export interface Carrier {
  readonly codec: RelayCodec;
  /** Bytes that were sent and wait in this process. */
  readonly waitingBytes: number;
  /** Starts it, or hands it on to another listener, which first receives what arrived while there was none. */
  listen(listener: CarrierListener): void;
  /** Keeps what arrives for the next listener. Call it synchronously from the listener. */
  hold(): void;
  send(frame: RelayFrame): void;
  /** Stops reading until `resume`; for peers that have no window. */
  pause(): void;
  resume(): void;
  /** Sends a Close frame; the listener still receives the peer's answer. */
  end(code: number): void;
  /** Sends a Close frame with a reason, and aborts after half a second. The listener is not called any more. */
  close(code: number, reason: string): void;
  /** Aborts without a Close frame. The listener is not called any more. */
  drop(): void;
}

/**
 * The part that all carriers share, whatever transports their messages: decodes them, passes frames to the listener or
 * keeps them while there is none, turns violations into a Close frame, and reports the end once.
 *
 * A subclass implements the transport (`send`, `pause`, `resume`, `end`, `waitingBytes`, `finish`, `release`), and calls
 * `receive` for each message in order, `wentOut` when something it sent has left, and `lost` when its connection has ended.
 * It starts paused: `listen` calls `resume`.
 */
export abstract class MessageCarrier implements Carrier {
  abstract readonly codec: RelayCodec;
  /** The listener is not called any more. */
  #isOver = false;
  #listener: CarrierListener | undefined;
  /** What arrived while there was no listener. */
  #heldFrames: RelayFrame[] = [];
  #heldEnd: CarrierEnd | undefined;

  abstract get waitingBytes(): number;
  abstract send(frame: RelayFrame): void;
  abstract pause(): void;
  abstract resume(): void;
  abstract end(code: number): void;

  /** Sends a Close frame and what waits before it, waits a moment for the peer, and releases the connection. */
  protected abstract finish(code: number, reason: string): void;
  /** Releases the connection at once. Called again, it does nothing. */
  protected abstract release(): void;

  listen(listener: CarrierListener): void {
    this.#listener = listener;
    const held = this.#heldFrames;
    this.#heldFrames = [];
    for (const frame of held) this.#deliver(frame);
    if (this.#heldEnd !== undefined) this.lost(this.#heldEnd);
    else this.resume();
  }

  hold(): void {
    this.#listener = undefined;
    this.pause();
  }

  close(code: number, reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.finish(code, reason);
  }

  drop(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.release();
  }

  protected get isOver(): boolean {
    return this.#isOver;
  }

  /** Receives a message, in order. With `releaseMemory`, the receiver of data returns its memory by it. */
  protected receive(data: Buffer, isBinary: boolean, releaseMemory?: Release): void {
    if (this.#isOver) return;
    try {
      const frame = this.codec.decode(data, isBinary);
      if (frame?.kind === 'data' && releaseMemory) this.#deliver({ ...frame, release: releaseMemory });
      else if (frame !== undefined) this.#deliver(frame);
    } catch (error) {
      this.#closeForViolation(error);
    }
  }

  /** Something that was sent has left this process. */
  protected wentOut(): void {
    if (!this.#isOver) this.#listener?.drained();
  }

  /** The connection has ended. */
  protected lost(end: CarrierEnd): void {
    if (this.#isOver) return;
    if (this.#listener === undefined) return void (this.#heldEnd ??= end);
    this.#isOver = true;
    this.release();
    this.#listener.ended(end);
  }

  #deliver(frame: RelayFrame): void {
    if (this.#isOver) return;
    if (this.#listener === undefined) return void this.#heldFrames.push(frame);
    try {
      this.#listener.frame(frame);
    } catch (error) {
      this.#closeForViolation(error);
    }
  }

  #closeForViolation(error: unknown): void {
    if (!(error instanceof RelayViolation)) throw error;
    const listener = this.#listener;
    this.close(error.closeCode, error.message);
    listener?.ended({ how: 'violation', error });
  }
}
