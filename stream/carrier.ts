import { RelayViolation } from '../protocol/relay-frame.ts';
import type { RelayCodec, RelayFrame } from '../protocol/relay-frame.ts';
import type { Release } from './zero-copy/pooled-reads.ts';

/** How a carrier ended, for those who count the causes. */
export type CarrierEnd =
  /** By a Close frame with this code. */
  | { readonly how: 'closed'; readonly code: number; readonly reason: string }
  /** By an error of the connection, a reset in most cases. */
  | { readonly how: 'reset' }
  /** By an end of the connection without a word, as proxies do it. */
  | { readonly how: 'dropped' }
  /** It left our pings unanswered. */
  | { readonly how: 'silent' }
  /** A newer one has taken its place. */
  | { readonly how: 'replaced' }
  /** It said what breaks the rules. */
  | { readonly how: 'violation'; readonly error: RelayViolation };

/** Told what happens on a carrier. */
export interface CarrierListener {
  frame(frame: RelayFrame): void;
  /** Something that was sent has gone into the network. */
  drained(): void;
  /** Called once; nothing comes afterwards. */
  ended(end: CarrierEnd): void;
}

/** One connection that brings the bytes of a resumable tunnel. */
export interface Carrier {
  readonly codec: RelayCodec;
  /** Bytes that were sent and wait in this process. */
  readonly waitingBytes: number;
  /** Starts it, or hands it on to another listener, which hears first what came while nobody did. */
  listen(listener: CarrierListener): void;
  /** Keeps what comes for the next listener. Call it in the listener's own turn. */
  hold(): void;
  send(frame: RelayFrame): void;
  /** Reads no more until `resume`; for peers that know no window. */
  pause(): void;
  resume(): void;
  /** Says that we have said everything; the listener is told of the peer's answer. */
  end(code: number): void;
  /** Says why and closes; breaks off when the peer has had half a second. The listener is told nothing more. */
  close(code: number, reason: string): void;
  /** Breaks off without a word. The listener is told nothing more. */
  drop(): void;
}

/** What all carriers have in common, however their messages get to the other end. */
export abstract class MessageCarrier implements Carrier {
  abstract readonly codec: RelayCodec;
  /** Nobody is told anything more. */
  #over = false;
  #listener: CarrierListener | undefined;
  /** What came while nobody listened. */
  #held: RelayFrame[] = [];
  #heldEnd: CarrierEnd | undefined;

  abstract get waitingBytes(): number;
  abstract send(frame: RelayFrame): void;
  abstract pause(): void;
  abstract resume(): void;
  abstract end(code: number): void;

  /** Says why, sends what waits, waits for the other end a moment, and lets go. */
  protected abstract finish(code: number, reason: string): void;
  /** Lets go at once. */
  protected abstract release(): void;

  listen(listener: CarrierListener): void {
    this.#listener = listener;
    const held = this.#held;
    this.#held = [];
    for (const frame of held) this.#hear(frame);
    if (this.#heldEnd !== undefined) this.lost(this.#heldEnd);
    else this.resume();
  }

  hold(): void {
    this.#listener = undefined;
    this.pause();
  }

  close(code: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.finish(code, reason);
  }

  drop(): void {
    if (this.#over) return;
    this.#over = true;
    this.release();
  }

  protected get isOver(): boolean {
    return this.#over;
  }

  /** Takes a message that has arrived, in order. Where there is a `release`, whoever gets the data may call it. */
  protected receive(data: Buffer, isBinary: boolean, release?: Release): void {
    if (this.#over) return;
    try {
      const frame = this.codec.decode(data, isBinary);
      if (frame?.kind === 'data' && release) this.#hear({ ...frame, release });
      else if (frame !== undefined) this.#hear(frame);
    } catch (error) {
      this.#violated(error);
    }
  }

  /** Something that was sent is out of our hands. */
  protected wentOut(): void {
    if (!this.#over) this.#listener?.drained();
  }

  /** The way to the other end is no more. */
  protected lost(end: CarrierEnd): void {
    if (this.#over) return;
    if (this.#listener === undefined) return void (this.#heldEnd ??= end);
    this.#over = true;
    this.release();
    this.#listener.ended(end);
  }

  #hear(frame: RelayFrame): void {
    if (this.#over) return;
    if (this.#listener === undefined) return void this.#held.push(frame);
    try {
      this.#listener.frame(frame);
    } catch (error) {
      this.#violated(error);
    }
  }

  #violated(error: unknown): void {
    if (!(error instanceof RelayViolation)) throw error;
    const listener = this.#listener;
    this.close(error.closeCode, error.message);
    listener?.ended({ how: 'violation', error });
  }
}
