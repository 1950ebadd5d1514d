import type { Buffer } from 'node:buffer';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { ignore, PooledReads, readOn } from './pooled-reads.ts';
import type { Sink } from './pooled-reads.ts';

/** A stream that can hand its bytes on without memory of their own. */
export interface DirectReadable {
  /** From now on hands what comes to `take` instead of `data` listeners. `end` is told as ever. */
  readDirect(take: Sink): void;
}

/** The same for any stream, though not all have a better way than `data`. */
export function readDirect(stream: Duplex, take: Sink): void {
  if (handsOver(stream)) return stream.readDirect(take);
  if (stream instanceof Socket) readPooled(stream, take);
  stream.on('data', (bytes: Buffer) => {
    if (!take(bytes, ignore)) stream.pause();
  });
}

function handsOver(stream: Duplex): stream is Duplex & DirectReadable {
  return 'readDirect' in stream;
}

/** What Node.js keeps `onread` under. */
interface OnRead {
  readonly buffer: symbol;
  readonly callback: symbol;
  readonly generator: symbol;
}

const onRead = findOnRead();

/**
 * Has a connection read into memory that is used again. What it has read before, and where that cannot be done
 * everything, comes by `data` as ever. Node.js has `onread` for connections that are dialled only, though what is behind it
 * is the same for all: connections that came to us get it by its inner names, where Node.js has those.
 * Says whether it is done.
 */
export function readPooled(socket: Socket, take: Sink): boolean {
  const { _handle: handle } = socket as { _handle?: { useUserBuffer?: (buffer: Buffer) => void } | null };
  if (onRead === undefined || typeof handle?.useUserBuffer !== 'function') return false;
  const inner = socket as unknown as Record<symbol, unknown>;
  if (inner[onRead.buffer] !== null) return false;
  const reads = new PooledReads(take, () => readOn(socket));
  inner[onRead.generator] = reads.buffer;
  inner[onRead.callback] = reads.callback;
  const first = (inner[onRead.buffer] = reads.buffer());
  handle.useUserBuffer(first);
  return true;
}

function findOnRead(): OnRead | undefined {
  const symbols = Object.getOwnPropertySymbols(new Socket());
  const [buffer, callback, generator] = ['kBuffer', 'kBufferCb', 'kBufferGen'].map((name) =>
    symbols.find(({ description }) => description === name),
  );
  return buffer && callback && generator && { buffer, callback, generator };
}
