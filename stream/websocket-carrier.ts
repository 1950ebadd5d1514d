import type { EventEmitter } from 'node:events';
import type { WebSocket } from 'ws';
import type { RelayCodec, RelayFrame } from '../protocol/relay-frame.ts';
import { afterReason } from './close.ts';
import { MessageCarrier } from './carrier.ts';
import type { Carrier, CarrierEnd } from './carrier.ts';

/**
 * A WebSocket as a carrier. Call it in the very tick of `open`: messages that come earlier are lost. Takes the WebSocket
 * over. `ws` keeps the errors of its connection to itself: with the connection, a reset is told from an end.
 */
export function webSocketCarrier(socket: WebSocket, codec: RelayCodec, connection?: EventEmitter): Carrier {
  return new WebSocketCarrier(socket, codec, connection);
}

export class WebSocketCarrier extends MessageCarrier {
  readonly codec: RelayCodec;
  readonly #socket: WebSocket;
  protected readonly drained = (): void => this.wentOut();
  #failed = false;

  constructor(socket: WebSocket, codec: RelayCodec, connection: EventEmitter | undefined) {
    super();
    this.codec = codec;
    this.#socket = socket;
    socket.on('message', (data: Buffer, isBinary: boolean) => this.receive(data, isBinary));
    socket.on('error', () => (this.#failed = true));
    connection?.on('error', () => (this.#failed = true));
    socket.on('close', (code: number, reason: Buffer) => this.lost(this.#endOf(code, reason.toString())));
    socket.pause();
  }

  get waitingBytes(): number {
    return this.#socket.bufferedAmount;
  }

  send(frame: RelayFrame): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    const message = this.codec.encode(frame);
    // A failed send also closes the WebSocket, and that is where it is handled.
    if (message !== undefined)
      this.#socket.send(message, { binary: typeof message !== 'string' }, this.drained);
  }

  /** It still brings the messages that it has read already. */
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
    this.#socket.terminate();
  }

  #endOf(code: number, reason: string): CarrierEnd {
    // 1006: the connection ended without a Close frame.
    if (code !== 1006) return { how: 'closed', code, reason };
    return { how: this.#failed ? 'reset' : 'dropped' };
  }
}
