import { Buffer } from 'node:buffer';

/** A tunnel that says little keeps little; one that says much needs few blocks. */
const minBytes = 2048;
const maxBytes = 64 * 1024;

/** The largest blocks that have become free are used again: new ones for all that goes through are work for the collector. */
const maxSpare = 16;

const nothing = Buffer.alloc(0);

interface Block {
  /** The position of its first byte. */
  readonly at: number;
  /** How much of `room` is used, from its beginning. */
  used: number;
  room: Buffer;
}

/**
 * Copies of bytes with a position each, kept until they are acknowledged, to be read again from any position that is
 * kept. What `read` gives is good until it is dropped: its memory is then used again, for later bytes of the same
 * tunnel and never for those of another one.
 */
export class ReplayBuffer {
  #blocks: Block[] = [];
  /** Blocks before this one are gone; the array is cut when they are many. */
  #head = 0;
  /** The block that was read last: the next read is nearly always of the same or the next. */
  #cursor = 0;
  #start = 0;
  #end = 0;
  #spare: Buffer[] = [];

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

  /** Forgets what lies before `position`, which is kept or the end; anything else is a `TypeError`. */
  dropBefore(position: number): void {
    this.#expectKept(position);
    this.#start = position;
    while (this.#head < this.#blocks.length && endOf(this.#blocks[this.#head]!) <= position) {
      this.#reuse(this.#blocks[this.#head]!);
      this.#blocks[this.#head++] = gone;
    }
    if (this.#head === this.#blocks.length) this.#blocks = [];
    else if (this.#head > 64 && this.#head * 2 > this.#blocks.length)
      this.#blocks = this.#blocks.slice(this.#head);
    else return;
    this.#cursor = Math.max(0, this.#cursor - this.#head);
    this.#head = 0;
  }

  /**
   * At most `most` bytes from `position` on, which is kept: as many as lie together. Nothing at the end. A `TypeError`
   * for a position that is not kept.
   */
  read(position: number, most: number): Buffer {
    this.#expectKept(position);
    if (position === this.#end) return nothing;
    const { at, used, room } = this.#blockAt(position);
    return room.subarray(position - at, Math.min(used, position - at + most));
  }

  /** Gives back the memory that is not needed for what is kept. */
  trim(): void {
    this.#spare = [];
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.room.length - last.used >= minBytes)
      last.room = copyOf(last.room.subarray(0, last.used));
  }

  #expectKept(position: number): void {
    if (!(position >= this.#start && position <= this.#end))
      throw new TypeError(`position ${position} is not kept`);
  }

  /** The one to put the next of `wanted` bytes into: what would only fill a small rest begins a block of its own. */
  #blockFor(wanted: number): Block {
    const last = this.#blocks.at(-1);
    const rest = last === undefined ? 0 : last.room.length - last.used;
    if (last !== undefined && (rest >= wanted || rest > last.room.length / 4)) return last;
    const block = { at: this.#end, used: 0, room: this.#roomFor(wanted) };
    this.#blocks.push(block);
    return block;
  }

  #roomFor(wanted: number): Buffer {
    let bytes = minBytes;
    while (bytes < wanted && bytes < maxBytes) bytes *= 2;
    // Slow: not out of a pool that others share.
    return (bytes === maxBytes ? this.#spare.pop() : undefined) ?? Buffer.allocUnsafeSlow(bytes);
  }

  #reuse({ room }: Block): void {
    if (room.length === maxBytes && this.#spare.length < maxSpare) this.#spare.push(room);
  }

  #blockAt(position: number): Block {
    if (this.#cursor < this.#head || this.#blocks[this.#cursor]!.at > position) this.#cursor = this.#head;
    while (endOf(this.#blocks[this.#cursor]!) <= position) this.#cursor++;
    return this.#blocks[this.#cursor]!;
  }
}

const gone: Block = { at: 0, used: 0, room: nothing };

function endOf({ at, used }: Block): number {
  return at + used;
}

function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}
