import { Buffer } from 'node:buffer';
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import type { RelayCodec, RelayFrame } from '../../protocol/relay-frame.ts';
import { maxMessageBytes, readMessages, writeMessages } from './websocket-data.ts';
import type { Release } from './pooled-reads.ts';
import { WebSocketCarrier } from '../websocket-carrier.ts';

/** The carrier of a WebSocket that came to us on this connection: its data is read and written without `ws`. */
export class InboundWebSocketCarrier extends WebSocketCarrier {
  readonly #socket: WebSocket;
  readonly #connection: Socket;
  /** A message whose end has not come, and how much of it has. */
  #message: MessageMemory | undefined;
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
      this.#message = messageMemory(bytes.length + left);
      this.#length = 0;
    }
    const { memory, release } = this.#message;
    memory.set(bytes, this.#length);
    this.#length += bytes.length;
    if (left > 0) return;
    this.#message = undefined;
    this.receive(memory.subarray(0, this.#length), true, release);
  }
}

interface MessageMemory {
  readonly memory: Buffer;
  /** Absent: it is left to the collector. */
  readonly release?: Release;
}

/** Shorter messages are no work for the collector. */
const longMessageBytes = 16 * 1024;
const mostSpare = 32;
const spare: MessageMemory[] = [];

function messageMemory(length: number): MessageMemory {
  if (length < longMessageBytes) return { memory: Buffer.allocUnsafe(length) };
  const used = spare.pop();
  if (used !== undefined) return used;
  const fresh: MessageMemory = {
    memory: Buffer.allocUnsafeSlow(maxMessageBytes),
    release(error) {
      if (!error && spare.length < mostSpare) spare.push(fresh);
    },
  };
  return fresh;
}
