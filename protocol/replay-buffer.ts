import { Buffer } from 'node:buffer';

/** Below this, bytes are copied together: a million single bytes must not become a million buffers. */
const smallBytes = 1024;
const slabBytes = 2048;

const nothing = Buffer.alloc(0);

interface Piece {
  /** The position of its first byte. */
  at: number;
  bytes: Buffer;
  /** What `bytes` is the used beginning of, when there is room behind it. */
  readonly slab?: Buffer;
}

/** Bytes with a position each, kept until they are acknowledged, to be read again from any position that is kept. */
export class ReplayBuffer {
  #pieces: Piece[] = [];
  /** Pieces before this one are gone; the array is cut when they are many. */
  #head = 0;
  /** The piece that was read last: the next read is nearly always of the same or the next. */
  #cursor = 0;
  #start = 0;
  #end = 0;

  /** The position of the oldest byte that is kept. */
  get start(): number {
    return this.#start;
  }

  /** The position after the newest one. */
  get end(): number {
    return this.#end;
  }

  /** Keeps `bytes` without copying them, unless they are few; they must not be changed afterwards. */
  append(bytes: Buffer): void {
    if (bytes.length === 0) return;
    if (bytes.length > smallBytes) this.#pieces.push({ at: this.#end, bytes });
    else this.#appendSmall(bytes);
    this.#end += bytes.length;
  }

  /** Forgets what lies before `position`, which is kept or the end; anything else is a `TypeError`. */
  dropBefore(position: number): void {
    this.#expectKept(position);
    this.#start = position;
    if (position === this.#end) {
      this.#pieces = [];
      this.#head = 0;
      this.#cursor = 0;
      return;
    }
    while (endOf(this.#pieces[this.#head]!) <= position) this.#pieces[this.#head++] = gone;
    if (this.#head > 64 && this.#head * 2 > this.#pieces.length) this.#cut();
  }

  /**
   * At most `most` bytes from `position` on, which is kept: as many as lie together. Nothing at the end. A `TypeError`
   * for a position that is not kept.
   */
  read(position: number, most: number): Buffer {
    this.#expectKept(position);
    if (position === this.#end) return nothing;
    const { at, bytes } = this.#pieceAt(position);
    return bytes.subarray(position - at, position - at + most);
  }

  #expectKept(position: number): void {
    if (!(position >= this.#start && position <= this.#end))
      throw new TypeError(`position ${position} is not kept`);
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
    this.#pieces.push({ at: this.#end, bytes: slab.subarray(0, bytes.length), slab });
  }

  #pieceAt(position: number): Piece {
    if (this.#cursor < this.#head || this.#pieces[this.#cursor]!.at > position) this.#cursor = this.#head;
    while (endOf(this.#pieces[this.#cursor]!) <= position) this.#cursor++;
    return this.#pieces[this.#cursor]!;
  }

  #cut(): void {
    this.#pieces = this.#pieces.slice(this.#head);
    this.#cursor = Math.max(0, this.#cursor - this.#head);
    this.#head = 0;
  }
}

const gone: Piece = { at: 0, bytes: nothing };

function endOf({ at, bytes }: Piece): number {
  return at + bytes.length;
}
