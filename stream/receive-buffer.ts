import { Buffer } from 'node:buffer';
import { ignore } from './zero-copy/pooled-reads.ts';
import type { Release } from './zero-copy/pooled-reads.ts';

/** Below this, bytes are copied together: a million single bytes must not become a million buffers. */
const smallBytes = 1024;
const slabBytes = 2048;

/** Bytes that lie in a buffer that many times as long are copied, and do not keep the buffer. */
const mostPinned = 4;

const nothing = Buffer.alloc(0);

interface Piece {
  bytes: Buffer;
  /** Gives the memory of `bytes` back. */
  readonly release: Release;
  /** What `bytes` is the used beginning of, when there is room behind it. */
  readonly slab?: Buffer;
}

/** Bytes that are good until `release` is called. */
interface Taken {
  readonly bytes: Buffer;
  readonly release: Release;
}

/** What has arrived and nobody has taken yet, in order. */
export class ReceiveBuffer {
  #pieces: Piece[] = [];
  /** Pieces before this one are gone; the array is cut when they are many. */
  #head = 0;
  #length = 0;

  /** Bytes. */
  get length(): number {
    return this.#length;
  }

  /** Takes `bytes` in, which must not be changed before `release` is called. */
  append(bytes: Buffer, release: Release = ignore): void {
    if (bytes.length === 0) return release();
    this.#length += bytes.length;
    const isSmall = bytes.length <= smallBytes;
    if (isSmall) this.#appendSmall(bytes);
    const kept = isSmall ? undefined : unpinned(bytes);
    if (kept) this.#pieces.push({ bytes: kept, release: kept === bytes ? release : ignore });
    if (kept !== bytes) release();
  }

  /** Takes out at most `most` bytes, as many as lie together; nothing when there are none. */
  receive(most: number): Taken {
    const piece = this.#pieces[this.#head];
    if (piece === undefined) return { bytes: nothing, release: ignore };
    const bytes = piece.bytes.subarray(0, most);
    const isWhole = bytes.length === piece.bytes.length;
    this.#length -= bytes.length;
    if (!isWhole) this.#pieces[this.#head] = { bytes: piece.bytes.subarray(most), release: piece.release };
    else this.#pieces[this.#head++] = gone;
    if (this.#head === this.#pieces.length) this.clear();
    else if (this.#head > 64 && this.#head * 2 > this.#pieces.length) {
      this.#pieces = this.#pieces.slice(this.#head);
      this.#head = 0;
    }
    const unpinnedBytes = unpinned(bytes);
    // The rest of a piece lies in the same memory.
    return { bytes: unpinnedBytes, release: isWhole ? piece.release : ignore };
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
    this.#pieces.push({ bytes: slab.subarray(0, bytes.length), slab, release: ignore });
  }
}

const gone: Piece = { bytes: nothing, release: ignore };

function unpinned(bytes: Buffer): Buffer {
  return bytes.buffer.byteLength > bytes.length * mostPinned ? Buffer.from(bytes) : bytes;
}
