import { Buffer } from 'node:buffer';
import { BufferPool } from '../base/buffer-pool.ts';
import type { Release } from '../base/buffer-pool.ts';

/** A tunnel that sends little keeps little; one that sends much needs few blocks. */
const minBytes = 2048;
const maxBytes = 64 * 1024;

const nothing = Buffer.alloc(0);

interface Block {
  /** The position of its first byte. */
  readonly at: number;
  /** How much of `room` is used, from its beginning. */
  used: number;
  room: Buffer;
  /** Returns `room` to the pool; undefined when it is of none. */
  release: Release | undefined;
}

/**
 * Copies of bytes, each with a position, that are kept until they are acknowledged and can be read again from any position
 * that is kept. What `read` returns is valid until it is dropped: its memory is then used again, for later bytes of the same
 * tunnel and never for those of another one (docs/decisions/020-pooled-reads.md).
 */
export class ReplayBuffer {
  #blocks: Block[] = [];
  /** Blocks before this one were dropped; the array is cut when they are many. */
  #head = 0;
  /** The block that was read last: the next read is nearly always of the same or the next. */
  #cursor = 0;
  #start = 0;
  #end = 0;
  /** Only the largest blocks: new ones for everything that passes would be work for the garbage collector. */
  readonly #pool = new BufferPool({ bufferBytes: maxBytes, maxFree: 16 });

  /** The position of the oldest byte that is kept. */
  get start(): number {
    return this.#start;
  }

  /** The position after the newest one. */
  get end(): number {
    return this.#end;
  }

  /** Keeps a copy of `bytes`. */
  append(bytes: Buffer): void {
    for (let from = 0; from < bytes.length;) {
      const block = this.#blockFor(bytes.length - from);
      const copied = bytes.copy(block.room, block.used, from);
      block.used += copied;
      from += copied;
      this.#end += copied;
    }
  }

  /** Drops what lies before `position`, which is kept or the end. Throws `TypeError` for any other. */
  dropBefore(position: number): void {
    this.#expectKept(position);
    this.#start = position;
    while (this.#head < this.#blocks.length && endOf(this.#blocks[this.#head]!) <= position) {
      this.#blocks[this.#head]!.release?.();
      this.#blocks[this.#head++] = dropped;
    }
    if (this.#head === this.#blocks.length) this.#blocks = [];
    else if (this.#head > 64 && this.#head * 2 > this.#blocks.length)
      this.#blocks = this.#blocks.slice(this.#head);
    else return;
    this.#cursor = Math.max(0, this.#cursor - this.#head);
    this.#head = 0;
  }

  /**
   * At most `maxRead` bytes from `position` on, as many as lie together; nothing at the end. Throws `TypeError` for a
   * position that is not kept.
   */
  read(position: number, maxRead: number): Buffer {
    this.#expectKept(position);
    if (position === this.#end) return nothing;
    const { at, used, room } = this.#blockAt(position);
    return room.subarray(position - at, Math.min(used, position - at + maxRead));
  }

  /** Frees the memory that is not needed for what is kept. */
  trim(): void {
    this.#pool.clear();
    const last = this.#blocks.at(-1);
    if (last === undefined || last.room.length - last.used < minBytes) return;
    last.room = copyOf(last.room.subarray(0, last.used));
    last.release = undefined;
  }

  #expectKept(position: number): void {
    if (!(position >= this.#start && position <= this.#end))
      throw new TypeError(`position ${position} is not kept`);
  }

  /** The block for the next of `wanted` bytes: what would only fill a small rest begins a block of its own. */
  #blockFor(wanted: number): Block {
    const last = this.#blocks.at(-1);
    const rest = last === undefined ? 0 : last.room.length - last.used;
    if (last !== undefined && (rest >= wanted || rest > last.room.length / 4)) return last;
    const block = { at: this.#end, used: 0, ...this.#roomFor(wanted) };
    this.#blocks.push(block);
    return block;
  }

  #roomFor(wanted: number): Pick<Block, 'room' | 'release'> {
    let size = minBytes;
    while (size < wanted && size < maxBytes) size *= 2;
    // Slow: not a slice of a buffer that others share.
    if (size < maxBytes) return { room: Buffer.allocUnsafeSlow(size), release: undefined };
    const { bytes, release } = this.#pool.acquire();
    return { room: bytes, release };
  }

  #blockAt(position: number): Block {
    if (this.#cursor < this.#head || this.#blocks[this.#cursor]!.at > position) this.#cursor = this.#head;
    while (endOf(this.#blocks[this.#cursor]!) <= position) this.#cursor++;
    return this.#blocks[this.#cursor]!;
  }
}

const dropped: Block = { at: 0, used: 0, room: nothing, release: undefined };

function endOf({ at, used }: Block): number {
  return at + used;
}

function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
