import { Buffer } from 'node:buffer';

/** Called when bytes are no longer needed; with an error, their memory must not be used again. */
export type Release = (error?: Error | null) => void;

/** For bytes whose memory belongs to them alone: the garbage collector frees it. */
export const noRelease: Release = () => {};

/** A buffer of a pool, and the function that returns it. Call `release` once at most. */
export interface PooledBuffer {
  readonly bytes: Buffer;
  readonly release: Release;
}

/** Buffers of one size that are used again: a new one for each read or message would be work for the garbage collector. */
export class BufferPool {
  readonly #bufferBytes: number;
  readonly #maxFree: number;
  #free: PooledBuffer[] = [];

  /** Buffers of `bufferBytes` bytes, of which at most `maxFree` are kept while they are not in use. */
  constructor({ bufferBytes, maxFree }: { readonly bufferBytes: number; readonly maxFree: number }) {
    this.#bufferBytes = bufferBytes;
    this.#maxFree = maxFree;
  }

  /** A buffer with arbitrary content. */
  acquire(): PooledBuffer {
    return this.#free.pop() ?? this.#allocate();
  }

  /** Frees the buffers that are not in use. */
  clear(): void {
    this.#free = [];
  }

  #allocate(): PooledBuffer {
    const buffer: PooledBuffer = {
      // Slow: not a slice of a buffer that others share.
      bytes: Buffer.allocUnsafeSlow(this.#bufferBytes),
      release: (error) => {
        if (!error && this.#free.length < this.#maxFree) this.#free.push(buffer);
      },
    };
    return buffer;
  }
}
