import { Buffer } from 'node:buffer';
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import type { RelayCodec, RelayFrame } from '../protocol/relay-frame.ts';
import { maxMessageBytes, readMessages, writeMessages } from './plain-messages.ts';
import { WebSocketCarrier } from './websocket-carrier.ts';

/** The carrier of a WebSocket that came to us on this connection: its data is read and written without `ws`. */
export class AcceptedCarrier extends WebSocketCarrier {
  readonly #socket: WebSocket;
  readonly #connection: Socket;
  /** A message whose end has not come, and how much of it has. */
  #message: Buffer | undefined;
  #length = 0;

  constructor(socket: WebSocket, codec: RelayCodec, connection: Socket) {
    super(socket, codec, connection);
    this.#socket = socket;
    this.#connection = connection;
    readMessages(connection, {
      mostBytes: maxMessageBytes,
      passesText: true,
      payload: (bytes, left) => this.#receive(bytes, left),
      whole: (release) => release(),
    });
  }

  override send(frame: RelayFrame): void {
    if (frame.kind !== 'data') return super.send(frame);
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    writeMessages(this.#connection, this.codec.encode(frame) as Buffer, this.drained);
  }

  /** Takes the bytes out of a memory that is soon read into again. */
  #receive(bytes: Buffer, left: number): void {
    if (this.#message === undefined) {
      this.#message = Buffer.allocUnsafe(bytes.length + left);
      this.#length = 0;
    }
    this.#message.set(bytes, this.#length);
    this.#length += bytes.length;
    if (left > 0) return;
    const whole = this.#message;
    this.#message = undefined;
    this.take(whole, true);
  }
}
