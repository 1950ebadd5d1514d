import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { DirectReadable } from '../../stream/zero-copy/direct-reads.ts';
import { PooledReads, readOn } from '../../stream/zero-copy/pooled-reads.ts';
import type { Sink } from '../../stream/zero-copy/pooled-reads.ts';

/**
 * A pipe or socket that this process was given to read from, into memory that is used again: Node.js takes new memory for
 * each read, which costs half of what a byte costs. It has no `data` events; `end`, `error` and `resume` are as ever.
 */
export class PooledInput extends Socket implements DirectReadable {
  readonly #reads: PooledReads;

  /** Reads at once: call `readDirect` in the same tick. */
  constructor(descriptor: number) {
    const reads = new PooledReads(
      () => true,
      () => readOn(this),
    );
    super({ fd: descriptor, readable: true, writable: false, onread: reads });
    this.#reads = reads;
  }

  readDirect(take: Sink): void {
    this.#reads.take = take;
    this.resume();
  }
}

/** The standard input of this process, as a `PooledInput` where it can be one: call `readDirect` in the same tick. */
export function standardInput(): Readable {
  return isPipe(0) ? new PooledInput(0) : process.stdin;
}

function isPipe(descriptor: number): boolean {
  if (process.platform === 'win32') return false;
  try {
    const stats = fstatSync(descriptor);
    return stats.isFIFO() || stats.isSocket();
  } catch {
    return false;
  }
}
