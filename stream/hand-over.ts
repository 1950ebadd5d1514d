import type { Buffer } from 'node:buffer';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { ignore, PooledReads } from './pooled-reads.ts';
import type { Take } from './pooled-reads.ts';
import { PooledSocket } from './pooled-socket.ts';

/**
 * From now on hands what comes on `stream` to `take` instead of `data` listeners, a connection's bytes out of memory
 * that is used again. `end` is told as ever.
 */
export function handOver(stream: Duplex, take: Take): void {
  if (stream instanceof PooledSocket) return stream.handOver(take);
  if (stream instanceof Socket) adopt(stream, take);
  stream.on('data', (bytes: Buffer) => {
    if (!take(bytes, ignore)) stream.pause();
  });
}

/** What Node.js keeps `onread` under. */
interface OnRead {
  readonly buffer: symbol;
  readonly callback: symbol;
  readonly generator: symbol;
}

const onRead = findOnRead();

/**
 * Node.js has `onread` for connections that are dialled only, though what is behind it is the same for all: connections
 * that came to us get it by its inner names, and are read as ever where Node.js does not have those.
 */
function adopt(socket: Socket, take: Take): void {
  const { _handle: handle } = socket as { _handle?: { useUserBuffer?: (buffer: Buffer) => void } | null };
  if (onRead === undefined || typeof handle?.useUserBuffer !== 'function') return;
  const inner = socket as unknown as Record<symbol, unknown>;
  if (inner[onRead.buffer] !== null) return;
  const reads = new PooledReads(take);
  inner[onRead.generator] = reads.buffer;
  inner[onRead.callback] = reads.callback;
  handle.useUserBuffer((inner[onRead.buffer] = reads.buffer()) as Buffer);
}

function findOnRead(): OnRead | undefined {
  const symbols = Object.getOwnPropertySymbols(new Socket());
  const [buffer, callback, generator] = ['kBuffer', 'kBufferCb', 'kBufferGen'].map((name) =>
    symbols.find(({ description }) => description === name),
  );
  return buffer && callback && generator && { buffer, callback, generator };
}
