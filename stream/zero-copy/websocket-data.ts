import { Buffer } from 'node:buffer';
import type { Socket } from 'node:net';
import { PlainFrames } from '../../protocol/websocket-data-frames.ts';
import type { PlainFramesOptions } from '../../protocol/websocket-data-frames.ts';
import { readPooled } from './direct-reads.ts';
import { ignore } from './pooled-reads.ts';
import type { Release } from './pooled-reads.ts';

/** Largest message either side sends, and the gateway takes. */
export const maxMessageBytes = 64 * 1024;

export interface MessageReader extends PlainFramesOptions {
  /** Bytes of a binary message, of which `left` are still to come. */
  readonly payload: (bytes: Buffer, left: number) => void;
  /** Told when the memory in which they lie holds no more of them, before anything else happens. */
  readonly whole: (release: Release) => void;
}

/**
 * Reads the plain messages of a WebSocket that came to us from its connection itself, and gives all else to `ws` as if it
 * had come by `data`. To be called before anybody has read; `ws` reads everything where that cannot be done.
 */
export function readMessages(connection: Socket, { payload, whole, ...options }: MessageReader): void {
  const frames = new PlainFrames(options, {
    payload,
    other: (bytes) => {
      whole(ignore);
      // `ws` keeps parts of what it gets.
      connection.emit('data', Buffer.from(bytes));
    },
  });
  const receive = (chunk: Buffer, release: Release): boolean => {
    frames.push(chunk);
    whole(release);
    return true;
  };
  if (!readPooled(connection, receive)) return;
  for (const early of takeRead(connection)) receive(early, ignore);
}

/**
 * Writes binary messages, as `ws` would, but all at once. A server masks nothing, and `ws` writes none of its own frames
 * between the head of one and its end.
 */
export function writeMessages(connection: Socket, bytes: Buffer, callback: Release): void {
  connection.cork();
  let at = 0;
  for (; bytes.length - at > maxMessageBytes; at += maxMessageBytes) {
    connection.write(maxHeadBytes);
    connection.write(bytes.subarray(at, at + maxMessageBytes));
  }
  connection.write(messageHead(bytes.length - at));
  connection.write(at === 0 ? bytes : bytes.subarray(at), callback);
  connection.uncork();
}

/** The head of a whole binary message (RFC 6455 section 5.2). */
function messageHead(length: number): Buffer {
  if (length < 126) return Buffer.of(0x82, length);
  if (length < 65_536) return Buffer.of(0x82, 126, length >> 8, length & 255);
  return maxHeadBytes;
}

const maxHeadBytes = Buffer.of(0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0);

/** What the connection has read that nobody has heard of. */
function takeRead(connection: Socket): readonly Buffer[] {
  const listeners = connection.listeners('data') as ((bytes: Buffer) => void)[];
  connection.removeAllListeners('data');
  const read: Buffer[] = [];
  for (let early; (early = connection.read() as Buffer | null) !== null;) read.push(early);
  for (const listener of listeners) connection.on('data', listener);
  return read;
}
