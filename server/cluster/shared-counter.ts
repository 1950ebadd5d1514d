import { hash, randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { TunnelError } from '../../protocol/errors.ts';
import type { Counter } from '../policy/counter.ts';

/** Each name has a place in each row. */
const rows = 2;
const placesInRow = 65_536;
const keyBytes = 32;
const cellBytes = 4;

/**
 * Counts of several processes in one file that all of them have open: each place has a cell for each process, which
 * nobody else writes. Who counts one more writes their own cell first and reads the others' then, so that of two who
 * come at once at least one sees both. Never too low; too high only for a name whose two places are both shared with
 * other names, which nobody can choose without the key of the file.
 *
 * The file has no name: the kernel forgets it with the last process. It is read and written through the page cache and
 * never flushed.
 */
export class SharedCounts {
  readonly fd: number;
  readonly columns: number;

  private constructor(fd: number, columns: number) {
    this.fd = fd;
    this.columns = columns;
  }

  /** Makes it for so many processes; `path` is used for a moment. Throws what `open` and a full disk throw. */
  static make(path: string, columns: number): SharedCounts {
    const fd = openSync(path, 'wx+', 0o600);
    try {
      unlinkSync(path);
      writeSync(fd, randomBytes(keyBytes));
      fill(fd, rows * placesInRow * columns * cellBytes);
      return new SharedCounts(fd, columns);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** One that was passed to this process. */
  static passed(fd: number, columns: number): SharedCounts {
    return new SharedCounts(fd, columns);
  }

  /** For the process that has this column; all its cells must be 0. */
  counter(column: number): Counter {
    return new ColumnCounter(this, column);
  }

  /** Forgets what a process has counted that is gone. */
  forget(column: number): void {
    const cells = new Uint32Array(rows * placesInRow * this.columns);
    readSync(this.fd, cells, 0, cells.byteLength, keyBytes);
    const zero = new Uint32Array(1);
    for (let at = column; at < cells.length; at += this.columns)
      if (cells[at] !== 0) writeSync(this.fd, zero, 0, cellBytes, keyBytes + at * cellBytes);
  }

  close(): void {
    closeSync(this.fd);
  }
}

/**
 * Zeros to the end: a disk that is full later does not matter then. Page by page, because ext4 keeps what is written at
 * once in one large folio, in which a write of 4 bytes takes 6 µs (Linux 6.18) instead of 1.
 */
function fill(fd: number, bytes: number): void {
  const page = Buffer.alloc(4096);
  for (let at = 0; at < bytes; at += page.length) writeSync(fd, page, 0, page.length, keyBytes + at);
}

class ColumnCounter implements Counter {
  readonly #file: SharedCounts;
  readonly #column: number;
  readonly #key: string;
  readonly #own = new Uint32Array(rows * placesInRow);
  readonly #cell = new Uint32Array(1);
  readonly #cells: Uint32Array;

  constructor(file: SharedCounts, column: number) {
    this.#file = file;
    this.#column = column;
    this.#cells = new Uint32Array(file.columns);
    const key = Buffer.alloc(keyBytes);
    readSync(file.fd, key, 0, keyBytes, 0);
    this.#key = key.toString('base64url');
  }

  add(name: string): number {
    const places = this.#placesOf(name);
    try {
      for (const place of places) this.#write(place, 1);
      return Math.min(...places.map((place) => this.#sumAt(place)));
    } catch (cause) {
      throw new TunnelError('INTERNAL', 'the counts of the gateway cannot be kept', { cause });
    }
  }

  remove(name: string, many = 1): void {
    for (const place of this.#placesOf(name)) {
      try {
        this.#write(place, -many);
      } catch {
        // Its page is there, so that only a disk that fails can say no; the next write of the cell says it right.
      }
    }
  }

  #placesOf(name: string): readonly number[] {
    const digest = hash('sha256', this.#key + name, 'buffer');
    return Array.from({ length: rows }, (_, row) => row * placesInRow + digest.readUInt16LE(2 * row));
  }

  #write(place: number, more: number): void {
    this.#own[place]! += more;
    this.#cell[0] = this.#own[place]!;
    const { fd, columns } = this.#file;
    writeSync(fd, this.#cell, 0, cellBytes, keyBytes + (place * columns + this.#column) * cellBytes);
  }

  #sumAt(place: number): number {
    const { fd, columns } = this.#file;
    readSync(fd, this.#cells, 0, columns * cellBytes, keyBytes + place * columns * cellBytes);
    let sum = 0;
    for (const count of this.#cells) sum += count;
    return sum;
  }
}
