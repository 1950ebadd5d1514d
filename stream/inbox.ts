import { Buffer } from 'node:buffer';

/** Below this, bytes are copied together: a million single bytes must not become a million buffers. */
const smallBytes = 1024;
const slabBytes = 2048;

/** Bytes that lie in a buffer that many times as long are copied, and do not keep the buffer. */
const mostPinned = 4;

const nothing = Buffer.alloc(0);

interface Piece {
  bytes: Buffer;
  /** What `bytes` is the used beginning of, when there is room behind it. */
  readonly slab?: Buffer;
}

/** What has arrived and nobody has taken yet, in order. */
export class Inbox {
  #pieces: Piece[] = [];
  /** Pieces before this one are gone; the array is cut when they are many. */
  #head = 0;
  #length = 0;

  /** Bytes. */
  get length(): number {
    return this.#length;
  }

  /** Takes `bytes` in, which must not be changed afterwards. */
  append(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#length += bytes.length;
    if (bytes.length > smallBytes) this.#pieces.push({ bytes: unpinned(bytes) });
    else this.#appendSmall(bytes);
  }

  /** Takes out at most `most` bytes, as many as lie together; nothing when there are none. */
  take(most: number): Buffer {
    const piece = this.#pieces[this.#head];
    if (piece === undefined) return nothing;
    const taken = piece.bytes.subarray(0, most);
    this.#length -= taken.length;
    if (taken.length < piece.bytes.length) this.#pieces[this.#head] = { bytes: piece.bytes.subarray(most) };
    else this.#pieces[this.#head++] = gone;
    if (this.#head === this.#pieces.length) this.clear();
    else if (this.#head > 64 && this.#head * 2 > this.#pieces.length) {
      this.#pieces = this.#pieces.slice(this.#head);
      this.#head = 0;
    }
    return unpinned(taken);
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
    this.#pieces.push({ bytes: slab.subarray(0, bytes.length), slab });
  }
}

const gone: Piece = { bytes: nothing };

function unpinned(bytes: Buffer): Buffer {
  return bytes.buffer.byteLength > bytes.length * mostPinned ? Buffer.from(bytes) : bytes;
}
