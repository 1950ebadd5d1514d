import { hash, randomBytes } from 'node:crypto';
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { TunnelError } from '../../protocol/errors.ts';
import type { Counter } from '../policy/counter.ts';

/** Each name has one cell index in each row. */
const rows = 2;
const cellsInRow = 65_536;
const keyBytes = 32;
const cellBytes = 4;

/**
 * Counts of several processes in one file that all of them have open: each index has a cell for each process, which no
 * other process writes. A process that counts one more writes its own cell first and then reads those of the others, so
 * that of two that do so at once at least one sees both. Never too low; too high only for a name whose two indexes are
 * both shared with other names, which cannot be chosen without the key of the file.
 *
 * The file has no name: the kernel frees it with the last process. It is read and written through the page cache and
 * never flushed.
 */
export class SharedCounts {
  readonly fd: number;
  readonly columns: number;

  private constructor(fd: number, columns: number) {
    this.fd = fd;
    this.columns = columns;
  }

  /** Makes it for `columns` processes; `path` is used for a moment. Throws what `open` and a full disk throw. */
  static make(path: string, columns: number): SharedCounts {
    const fd = openSync(path, 'wx+', 0o600);
    try {
      unlinkSync(path);
      writeSync(fd, randomBytes(keyBytes));
      fill(fd, rows * cellsInRow * columns * cellBytes);
      return new SharedCounts(fd, columns);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** The counts in a file that was passed to this process, made for `columns` processes. */
  static passed(fd: number, columns: number): SharedCounts {
    return new SharedCounts(fd, columns);
  }

  /** The counter of the process that has this column; all its cells must be 0. */
  counter(column: number): Counter {
    return new ColumnCounter(this, column);
  }

  /** Sets to 0 what a process that has ended has counted. */
  forget(column: number): void {
    const cells = new Uint32Array(rows * cellsInRow * this.columns);
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
 * Writes zeros to the end, so that a disk that is full later does not matter. Page by page, because ext4 keeps what is
 * written at once in one large folio, in which a write of 4 bytes takes 6 µs (Linux 6.18) instead of 1.
 */
function fill(fd: number, bytes: number): void {
  const page = Buffer.alloc(4096);
  for (let at = 0; at < bytes; at += page.length) writeSync(fd, page, 0, page.length, keyBytes + at);
}

class ColumnCounter implements Counter {
  readonly #file: SharedCounts;
  readonly #column: number;
  readonly #key: string;
  readonly #own = new Uint32Array(rows * cellsInRow);
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
    const indexes = this.#indexesOf(name);
    try {
      for (const index of indexes) this.#write(index, 1);
      return Math.min(...indexes.map((index) => this.#sumAt(index)));
    } catch (cause) {
      throw new TunnelError('INTERNAL', 'the tunnel counts of the gateway cannot be written', { cause });
    }
  }

  count(name: string): number {
    try {
      return Math.min(...this.#indexesOf(name).map((index) => this.#sumAt(index)));
    } catch (cause) {
      throw new TunnelError('INTERNAL', 'the tunnel counts of the gateway cannot be read', { cause });
    }
  }

  remove(name: string, many = 1): void {
    for (const index of this.#indexesOf(name)) {
      try {
        this.#write(index, -many);
      } catch {
        // Its page is there, so that only a failing disk can refuse; the next write of the cell has the right count.
      }
    }
  }

  #indexesOf(name: string): readonly number[] {
    const digest = hash('sha256', this.#key + name, 'buffer');
    return Array.from({ length: rows }, (_, row) => row * cellsInRow + digest.readUInt16LE(2 * row));
  }

  #write(index: number, more: number): void {
    this.#own[index]! += more;
    this.#cell[0] = this.#own[index]!;
    const { fd, columns } = this.#file;
    writeSync(fd, this.#cell, 0, cellBytes, keyBytes + (index * columns + this.#column) * cellBytes);
  }

  #sumAt(index: number): number {
    const { fd, columns } = this.#file;
    readSync(fd, this.#cells, 0, columns * cellBytes, keyBytes + index * columns * cellBytes);
    let sum = 0;
    for (const count of this.#cells) sum += count;
    return sum;
  }
}
