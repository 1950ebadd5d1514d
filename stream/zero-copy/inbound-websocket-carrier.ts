import { Buffer } from 'node:buffer';
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { BufferPool } from '../../base/buffer-pool.ts';
import type { Release } from '../../base/buffer-pool.ts';
import type { RelayCodec } from '../../protocol/relay-frame.ts';
import type { Carrier } from '../carrier.ts';
import { webSocketCarrier } from '../websocket-carrier.ts';
import type { BinaryMessages } from '../websocket-carrier.ts';
import { usesZeroCopy } from './setting.ts';
import { maxMessageBytes, readMessages, writeMessages } from './websocket-data.ts';

/**
 * The carrier of a WebSocket whose client has connected to us by `connection`: its data is read and written without `ws`.
 * Call it synchronously after the handshake. Takes over both.
 */
export function inboundWebSocketCarrier(socket: WebSocket, codec: RelayCodec, connection: Socket): Carrier {
  const binaryMessages = usesZeroCopy() ? new DirectMessages(connection) : undefined;
  return webSocketCarrier(socket, codec, { connection, binaryMessages });
}

/** The binary messages of an inbound WebSocket, copied out of the buffers that its connection is read into. */
class DirectMessages implements BinaryMessages {
  readonly #connection: Socket;
  /** A message whose end has not arrived, and how much of it has. */
  #message: MessageBuffer | undefined;
  #length = 0;

  constructor(connection: Socket) {
    this.#connection = connection;
  }

  listen(onMessage: (message: Buffer, release?: Release) => void): void {
    readMessages(this.#connection, {
      maxBytes: maxMessageBytes,
      passesText: true,
      payload: (bytes, left) => {
        const message = this.#copy(bytes, left);
        if (message) onMessage(message.bytes, message.release);
      },
      whole: (release) => release(),
    });
  }

  send(message: Buffer, onSent: Release): void {
    writeMessages(this.#connection, message, onSent);
  }

  /** Copies `bytes` to those before them; returns the message when none are `left` to come. */
  #copy(bytes: Buffer, left: number): MessageBuffer | undefined {
    const message = (this.#message ??= messageBuffer(bytes.length + left));
    message.bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    if (left > 0) return undefined;
    const whole = { bytes: message.bytes.subarray(0, this.#length), release: message.release };
    this.#message = undefined;
    this.#length = 0;
    return whole;
  }
}

interface MessageBuffer {
  readonly bytes: Buffer;
  /** Undefined: the buffer is left to the garbage collector. */
  readonly release: Release | undefined;
}

/** Shorter messages are little work for the garbage collector. */
const minPooledBytes = 16 * 1024;
const pool = new BufferPool({ bufferBytes: maxMessageBytes, maxFree: 32 });

function messageBuffer(length: number): MessageBuffer {
  if (length >= minPooledBytes) return pool.acquire();
  return { bytes: Buffer.allocUnsafe(length), release: undefined };
}
