import { Buffer } from 'node:buffer';
import type { Socket } from 'node:net';
import { noRelease } from '../../base/buffer-pool.ts';
import type { Release } from '../../base/buffer-pool.ts';
import { WebSocketDataFrames } from '../../protocol/websocket-data-frames.ts';
import type { WebSocketDataFramesOptions } from '../../protocol/websocket-data-frames.ts';
import { readPooled } from './direct-reads.ts';

/** Largest message that either side sends and the gateway accepts. */
export const maxMessageBytes = 64 * 1024;

export interface MessageReader extends WebSocketDataFramesOptions {
  /** Receives bytes of a binary message, of which `left` are still to come. */
  readonly payload: (bytes: Buffer, left: number) => void;
  /** Called when the buffer in which they lie holds no more of them, before anything else happens. */
  readonly whole: (release: Release) => void;
}

/**
 * Reads the ordinary messages of an inbound WebSocket from its connection itself, and passes everything else to `ws` as
 * if it had arrived by `data`. Call it before anything has been read; where it is not possible, `ws` reads everything.
 */
export function readMessages(connection: Socket, { payload, whole, ...options }: MessageReader): void {
  const frames = new WebSocketDataFrames(options, {
    payload,
    other: (bytes) => {
      whole(noRelease);
      // `ws` keeps slices of what it gets.
      connection.emit('data', Buffer.from(bytes));
    },
  });
  const receive = (chunk: Buffer, release: Release): boolean => {
    frames.push(chunk);
    whole(release);
    return true;
  };
  if (!readPooled(connection, receive)) return;
  for (const early of drainEarlyReads(connection)) receive(early, noRelease);
}

/**
 * Writes `bytes` as binary messages, as `ws` would, but all at once. A server masks nothing, and `ws` writes none of its own
 * frames between the head of a message and its end. `callback` is called when the last has been written.
 */
export function writeMessages(connection: Socket, bytes: Buffer, callback: Release): void {
  connection.cork();
  let at = 0;
  for (; bytes.length - at > maxMessageBytes; at += maxMessageBytes) {
    connection.write(maxMessageHead);
    connection.write(bytes.subarray(at, at + maxMessageBytes));
  }
  connection.write(messageHead(bytes.length - at));
  connection.write(at === 0 ? bytes : bytes.subarray(at), callback);
  connection.uncork();
}

/** The head of an unmasked, unfragmented binary message (RFC 6455 section 5.2). */
function messageHead(length: number): Buffer {
  if (length < 126) return Buffer.of(0x82, length);
  if (length < 65_536) return Buffer.of(0x82, 126, length >> 8, length & 255);
  return maxMessageHead;
}

/** That of a message of `maxMessageBytes`. */
const maxMessageHead = Buffer.of(0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0);

/** What the connection has read and no listener has received. */
function drainEarlyReads(connection: Socket): readonly Buffer[] {
  const listeners = connection.listeners('data') as ((bytes: Buffer) => void)[];
  connection.removeAllListeners('data');
  const early: Buffer[] = [];
  for (let bytes; (bytes = connection.read() as Buffer | null) !== null;) early.push(bytes);
  for (const listener of listeners) connection.on('data', listener);
  return early;
}
