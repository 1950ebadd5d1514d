import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { DirectReadable } from './direct-reads.ts';
import { PooledReads, readOn } from './pooled-reads.ts';
import type { Sink } from './pooled-reads.ts';

/**
 * An inherited pipe or socket that is read into a reused buffer: Node.js allocates memory for each read, which is half
 * the cost of a byte. It has no `data` events; `end`, `error` and `resume` work as usual.
 */
export class PooledInput extends Socket implements DirectReadable {
  readonly #reads: PooledReads;

  /** Starts reading at once: call `readDirect` in the same tick. */
  constructor(descriptor: number) {
    const reads = new PooledReads(
      () => true,
      () => readOn(this),
    );
    super({ fd: descriptor, readable: true, writable: false, onread: reads });
    this.#reads = reads;
  }

  readDirect(sink: Sink): void {
    this.#reads.take = sink;
    this.resume();
  }
}

/** The standard input of this process; a `PooledInput` where it is a pipe or socket: then call `readDirect` in the same tick. */
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
