import type { EventEmitter } from 'node:events';
import type { WebSocket } from 'ws';
import type { Release } from '../base/buffer-pool.ts';
import type { RelayCodec, RelayFrame } from '../protocol/relay-frame.ts';
import { relayV4 } from '../protocol/relay-v4.ts';
import { afterReason } from './close.ts';
import { MessageCarrier } from './carrier.ts';
import type { Carrier, CarrierEnd } from './carrier.ts';
import { isOfPrograms, onceClosed } from './websocket-close.ts';

/** Reads binary messages of a WebSocket, and writes those that are data, in the place of `ws`. */
export interface BinaryMessages {
  /** Passes on each message, in order with those that `ws` reads. Called once, before anything has been read. */
  listen(onMessage: (message: Buffer, release?: Release) => void): void;
  send(message: Buffer, onSent: Release): void;
}

export interface WebSocketCarrierOptions {
  /** The connection of the WebSocket. `ws` keeps its errors to itself: with it, a reset is told from an end. */
  readonly connection?: EventEmitter | undefined;
  /** Absent: `ws` reads and writes everything. */
  readonly binaryMessages?: BinaryMessages | undefined;
}

/** A WebSocket as a carrier. Call it synchronously in `open`: earlier messages are lost. Takes over the WebSocket. */
export function webSocketCarrier(
  socket: WebSocket,
  codec: RelayCodec,
  options: WebSocketCarrierOptions = {},
): Carrier {
  return new WebSocketCarrier(socket, codec, options);
}

class WebSocketCarrier extends MessageCarrier {
  readonly codec: RelayCodec;
  readonly #socket: WebSocket;
  readonly #binaryMessages: BinaryMessages | undefined;
  readonly #onSent = (): void => this.wentOut();
  #hasFailed = false;
  #peerHasClosed = false;

  constructor(socket: WebSocket, codec: RelayCodec, { connection, binaryMessages }: WebSocketCarrierOptions) {
    super();
    this.codec = codec;
    this.#socket = socket;
    this.#binaryMessages = binaryMessages;
    const onError = (): void => void (this.#hasFailed = true);
    socket.on('message', (data: Buffer, isBinary: boolean) => this.receive(data, isBinary));
    socket.on('error', onError);
    connection?.on('error', onError);
    // Relay v4 has nothing else to end with, so there every code is final.
    onceClosed(
      socket,
      (code) => codec === relayV4 || isOfPrograms(code),
      (code, reason) => {
        this.#peerHasClosed = code !== 1006;
        this.lost(this.#endOf(code, reason));
      },
    );
    socket.pause();
    binaryMessages?.listen((message, release) => this.receive(message, true, release));
  }

  get waitingBytes(): number {
    return this.#socket.bufferedAmount;
  }

  send(frame: RelayFrame): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    const message = this.codec.encode(frame);
    if (message === undefined) return;
    // A failed send also closes the WebSocket, and that is where it is handled.
    if (this.#binaryMessages && frame.kind === 'data')
      this.#binaryMessages.send(message as Buffer, this.#onSent);
    else this.#socket.send(message, { binary: typeof message !== 'string' }, this.#onSent);
  }

  /** Messages that were read already are still received. */
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

  protected override finish(code: number, reason: string): void {
    this.#socket.close(code, reason);
    // A paused WebSocket would never read the peer's Close frame.
    this.#socket.resume();
    afterReason(this.#socket, () => this.#socket.terminate());
  }

  protected override release(): void {
    // `ws` has answered the peer's Close, and the peer can read that.
    if (this.#peerHasClosed) afterReason(this.#socket, () => this.#socket.terminate());
    else this.#socket.terminate();
  }

  #endOf(code: number, reason: string): CarrierEnd {
    // 1006: the connection ended without a Close frame.
    if (code !== 1006) return { how: 'closed', code, reason };
    return { how: this.#hasFailed ? 'reset' : 'dropped' };
  }
}
