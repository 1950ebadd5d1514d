import type { Buffer } from 'node:buffer';
import { Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { noRelease } from '../../base/buffer-pool.ts';
import { PooledReads, readOn } from './pooled-reads.ts';
import type { Sink } from './pooled-reads.ts';
import { usesZeroCopy } from './setting.ts';

/** A stream that can pass its bytes on without memory of their own. */
export interface DirectReadable {
  /** From now on passes what arrives to `sink` instead of `data` listeners. `end` is emitted as usual. */
  readDirect(sink: Sink): void;
}

/** The same for any stream, by `data` events where it has nothing better. */
export function readDirect(stream: Duplex, sink: Sink): void {
  if (isDirectReadable(stream)) return stream.readDirect(sink);
  if (stream instanceof Socket) readPooled(stream, sink);
  readByEvents(stream, sink);
}

/** Passes on what arrives by `data` events. */
export function readByEvents(stream: Readable, sink: Sink): void {
  stream.on('data', (bytes: Buffer) => {
    if (!sink(bytes, noRelease)) stream.pause();
  });
}

function isDirectReadable(stream: Duplex): stream is Duplex & DirectReadable {
  return 'readDirect' in stream;
}

/** The symbols under which Node.js keeps `onread`. */
interface OnReadSymbols {
  readonly buffer: symbol;
  readonly callback: symbol;
  readonly generator: symbol;
}

const onRead = findOnReadSymbols();

/**
 * Has a connection read into pooled buffers, and returns whether that is possible. What was read before, and everything
 * where it is not possible, arrives by `data` as usual. Node.js has `onread` for dialled connections only, though the
 * implementation is the same for all: inbound connections get it by its symbols, where Node.js has those.
 */
export function readPooled(socket: Socket, sink: Sink): boolean {
  if (!usesZeroCopy()) return false;
  const { _handle: handle } = socket as { _handle?: { useUserBuffer?: (buffer: Buffer) => void } | null };
  if (onRead === undefined || typeof handle?.useUserBuffer !== 'function') return false;
  const inner = socket as unknown as Record<symbol, unknown>;
  if (inner[onRead.buffer] !== null) return false;
  const reads = new PooledReads(sink, () => readOn(socket));
  inner[onRead.generator] = reads.buffer;
  inner[onRead.callback] = reads.callback;
  const first = (inner[onRead.buffer] = reads.buffer());
  handle.useUserBuffer(first);
  return true;
}

function findOnReadSymbols(): OnReadSymbols | undefined {
  const symbols = Object.getOwnPropertySymbols(new Socket());
  const [buffer, callback, generator] = ['kBuffer', 'kBufferCb', 'kBufferGen'].map((name) =>
    symbols.find(({ description }) => description === name),
  );
  return buffer && callback && generator && { buffer, callback, generator };
}
