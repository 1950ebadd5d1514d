import type { EventEmitter } from 'node:events';
import type { WebSocket } from 'ws';
import { RelayViolation } from '../protocol/relay-frame.ts';
import type { RelayCodec, RelayFrame } from '../protocol/relay-frame.ts';
import { afterReason } from './close.ts';

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

/**
 * A WebSocket as a carrier. Call it in the very tick of `open`: messages that come earlier are lost. Takes the WebSocket
 * over. `ws` keeps the errors of its connection to itself: with the connection, a reset is told from an end.
 */
export function webSocketCarrier(socket: WebSocket, codec: RelayCodec, connection?: EventEmitter): Carrier {
  return new WebSocketCarrier(socket, codec, connection);
}

class WebSocketCarrier implements Carrier {
  readonly codec: RelayCodec;
  readonly #socket: WebSocket;
  readonly #drained = (): void => {
    if (!this.#over) this.#listener?.drained();
  };
  /** Nobody is told anything more. */
  #over = false;
  #listener: CarrierListener | undefined;
  #failed = false;
  /** What came while nobody listened: pausing a WebSocket does not hold back messages that it has read already. */
  #held: RelayFrame[] = [];
  #heldEnd: CarrierEnd | undefined;

  constructor(socket: WebSocket, codec: RelayCodec, connection: EventEmitter | undefined) {
    this.codec = codec;
    this.#socket = socket;
    socket.on('message', (data: Buffer, isBinary: boolean) => this.#receive(data, isBinary));
    socket.on('error', () => (this.#failed = true));
    connection?.on('error', () => (this.#failed = true));
    socket.on('close', (code: number, reason: Buffer) => this.#end(this.#endOf(code, reason.toString())));
    socket.pause();
  }

  get waitingBytes(): number {
    return this.#socket.bufferedAmount;
  }

  listen(listener: CarrierListener): void {
    this.#listener = listener;
    const held = this.#held;
    this.#held = [];
    for (const frame of held) this.#hear(frame);
    if (this.#heldEnd !== undefined) this.#end(this.#heldEnd);
    else this.#socket.resume();
  }

  hold(): void {
    this.#listener = undefined;
    this.#socket.pause();
  }

  send(frame: RelayFrame): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    const message = this.codec.encode(frame);
    // A failed send also closes the WebSocket, and that is where it is handled.
    if (message !== undefined)
      this.#socket.send(message, { binary: typeof message !== 'string' }, this.#drained);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(code: number): void {
    this.#socket.close(code);
    this.#socket.resume();
  }

  close(code: number, reason: string): void {
    this.#over = true;
    this.#socket.close(code, reason);
    // A paused WebSocket would never read the peer's Close frame.
    this.#socket.resume();
    afterReason(this.#socket, () => this.#socket.terminate());
  }

  drop(): void {
    this.#over = true;
    this.#socket.terminate();
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (this.#over) return;
    try {
      const frame = this.codec.decode(data, isBinary);
      if (frame !== undefined) this.#hear(frame);
    } catch (error) {
      this.#violated(error);
    }
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

  #endOf(code: number, reason: string): CarrierEnd {
    // 1006: the connection ended without a Close frame.
    if (code !== 1006) return { how: 'closed', code, reason };
    return { how: this.#failed ? 'reset' : 'dropped' };
  }

  #end(end: CarrierEnd): void {
    if (this.#over) return;
    if (this.#listener === undefined) return void (this.#heldEnd = end);
    this.#over = true;
    this.#listener.ended(end);
  }
}
