import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { DirectReadable } from './direct-reads.ts';
import { PooledReads, readOn } from './pooled-reads.ts';
import type { Sink } from './pooled-reads.ts';
import { usesZeroCopy } from './setting.ts';

/**
 * A pipe or socket that this process inherited for reading, read into pooled buffers: Node.js allocates a new one for
 * each read, which is half of what a byte costs. It emits no `data`; `end`, `error` and `resume` are as usual.
 */
export class PooledInput extends Socket implements DirectReadable {
  readonly #reads: PooledReads;

  /** Reads at once: call `readDirect` synchronously. */
  constructor(descriptor: number) {
    const reads = new PooledReads(
      () => true,
      () => readOn(this),
    );
    super({ fd: descriptor, readable: true, writable: false, onread: reads });
    this.#reads = reads;
  }

  readDirect(sink: Sink): void {
    this.#reads.sink = sink;
    this.resume();
  }
}

/** The standard input of this process, as a `PooledInput` where it can be one: call `readDirect` synchronously. */
export function standardInput(): Readable {
  return usesZeroCopy() && isPipe(0) ? new PooledInput(0) : process.stdin;
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
