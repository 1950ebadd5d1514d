import { Buffer } from 'node:buffer';
import { noRelease } from '../base/buffer-pool.ts';
import type { PooledBuffer, Release } from '../base/buffer-pool.ts';

/** Up to this, bytes are copied together: a million single bytes must not become a million buffers. */
const smallBytes = 1024;
const slabBytes = 2048;

/** Bytes of a buffer that is more than so many times as long are copied, and do not keep it from being freed. */
const maxPinned = 4;

const nothing = Buffer.alloc(0);

interface Piece {
  bytes: Buffer;
  /** Returns the memory of `bytes`. */
  readonly release: Release;
  /** What `bytes` is the used beginning of, when there is room behind it. */
  readonly slab?: Buffer;
}

/** Bytes that have arrived and were not read, in order. */
export class ReceiveBuffer {
  #pieces: Piece[] = [];
  /** Pieces before this one were read; the array is cut when they are many. */
  #head = 0;
  #length = 0;

  /** Bytes. */
  get length(): number {
    return this.#length;
  }

  /** Adds `bytes`, which must not be changed before `release` is called. */
  append(bytes: Buffer, release: Release = noRelease): void {
    if (bytes.length === 0) return release();
    this.#length += bytes.length;
    const isSmall = bytes.length <= smallBytes;
    if (isSmall) this.#appendSmall(bytes);
    const kept = isSmall ? undefined : unpinned(bytes);
    if (kept) this.#pieces.push({ bytes: kept, release: kept === bytes ? release : noRelease });
    if (kept !== bytes) release();
  }

  /** Removes at most `maxBytes` bytes, as many as lie together, and returns them; they are valid until they are released. */
  shift(maxBytes: number): PooledBuffer {
    const piece = this.#pieces[this.#head];
    if (piece === undefined) return { bytes: nothing, release: noRelease };
    const bytes = piece.bytes.subarray(0, maxBytes);
    const isWhole = bytes.length === piece.bytes.length;
    this.#length -= bytes.length;
    if (!isWhole)
      this.#pieces[this.#head] = { bytes: piece.bytes.subarray(maxBytes), release: piece.release };
    else this.#pieces[this.#head++] = removed;
    if (this.#head === this.#pieces.length) this.clear();
    else if (this.#head > 64 && this.#head * 2 > this.#pieces.length) {
      this.#pieces = this.#pieces.slice(this.#head);
      this.#head = 0;
    }
    const unpinnedBytes = unpinned(bytes);
    // The rest of a piece lies in the same memory.
    return { bytes: unpinnedBytes, release: isWhole ? piece.release : noRelease };
  }

  clear(): void {
    this.#pieces = [];
    this.#head = 0;
    this.#length = 0;
  }

  #appendSmall(bytes: Buffer): void {
    const last = this.#pieces.at(-1);
    if (last?.slab !== undefined && last.bytes.length + bytes.length <= last.slab.length) {
      bytes.copy(last.slab, last.bytes.length);
      last.bytes = last.slab.subarray(0, last.bytes.length + bytes.length);
      return;
    }
    const slab = Buffer.allocUnsafeSlow(slabBytes);
    bytes.copy(slab);
    this.#pieces.push({ bytes: slab.subarray(0, bytes.length), slab, release: noRelease });
  }
}

const removed: Piece = { bytes: nothing, release: noRelease };

function unpinned(bytes: Buffer): Buffer {
  return bytes.buffer.byteLength > bytes.length * maxPinned ? Buffer.from(bytes) : bytes;
}
