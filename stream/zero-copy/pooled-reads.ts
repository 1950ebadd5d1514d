import { Buffer } from 'node:buffer';
import type { Socket } from 'node:net';
import { BufferPool, noRelease } from '../../base/buffer-pool.ts';
import type { PooledBuffer, Release } from '../../base/buffer-pool.ts';

/** Small reads share one buffer; its content is copied out before the next socket is read. */
const shared = Buffer.allocUnsafeSlow(16 * 1024);

/** A connection that fills the shared buffer is read into pooled ones of this size. */
const pooledBytes = 128 * 1024;

/** A connection that fills no more than this of a pooled buffer is read into the shared one again. */
const smallReadBytes = 8 * 1024;

/**
 * After this many full buffers, other connections are read first. Node.js reads one connection up to 32 times before it looks
 * at the next: with 200 that flood at once, an interactive one would wait for seconds.
 */
const maxConsecutiveReads = 4;

const pool = new BufferPool({ bufferBytes: pooledBytes, maxFree: 16 });

/**
 * Receives bytes that have arrived. They are valid until `release` is called; without an error, their memory is then used
 * again, and until then the receiver can change them. Returning false asks for no more of them until `resume`.
 */
export type Sink = (bytes: Buffer, release: Release) => boolean;

/** The buffers that one connection is read into, in the form in which Node.js' `onread` asks for them. */
export class PooledReads {
  /** Receives the bytes; it can be replaced. */
  sink: Sink;
  /** The buffer that is read into now, when it is not the shared one. */
  #own: PooledBuffer | undefined;
  readonly #readOn: () => void;
  /** Buffers that were filled since other connections were read. */
  #filled = 0;

  /** `readOn` has the connection read on, unless it is paused. */
  constructor(sink: Sink, readOn: () => void) {
    this.sink = sink;
    this.#readOn = readOn;
  }

  readonly buffer = (): Buffer => this.#own?.bytes ?? shared;

  readonly callback = (length: number): boolean => {
    const own = this.#own;
    if (own === undefined) {
      if (length === shared.length) this.#own = pool.acquire();
      return this.sink(Buffer.from(shared.subarray(0, length)), noRelease);
    }
    this.#own = length > smallReadBytes ? pool.acquire() : undefined;
    const isFull = length === pooledBytes;
    const wantsMore = this.sink(isFull ? own.bytes : own.bytes.subarray(0, length), own.release);
    return wantsMore && (!isFull || this.#canContinue());
  };

  #canContinue(): boolean {
    this.#filled = (this.#filled + 1) % maxConsecutiveReads;
    if (this.#filled > 0) return true;
    setImmediate(this.#readOn);
    return false;
  }
}

/** Has a connection read on, unless it is paused. */
export function readOn(socket: Socket): void {
  if (!socket.destroyed && !socket.isPaused()) socket.resume();
}

/** Joins two slices of one buffer, of which the second follows the first after a gap, by moving the second up to the first. */
export function joined(first: Buffer | undefined, second: Buffer): Buffer {
  if (first === undefined) return second;
  const both = Buffer.from(first.buffer, first.byteOffset, first.length + second.length);
  second.copy(both, first.length);
  return both;
}
