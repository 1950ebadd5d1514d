import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';

/** Who says little is copied, and not kept in a memory that is a hundred times as large. */
const littleBytes = 4 * 1024;
const pooledBytes = 64 * 1024;
const mostSpare = 4;

/** Takes bytes that are good until `release` is called. Gives false when nothing more should be read until `resume`. */
export type Take = (bytes: Buffer, release: (error?: Error | null) => void) => boolean;

/**
 * A pipe or socket that this process was given to read from, into memory that is used again: Node.js takes new memory for
 * each read, which costs half of what a byte costs. It has no `data` events; `end`, `error` and `resume` are as ever.
 */
export class PooledInput extends Socket {
  readonly #reads: Reads;

  /** Reads at once: call `handOver` in the same tick. */
  constructor(descriptor: number) {
    const reads = new Reads();
    super({
      fd: descriptor,
      readable: true,
      writable: false,
      onread: {
        buffer: () => reads.memory(),
        callback: (length, memory) => reads.come(memory as Buffer, length),
      },
    });
    this.#reads = reads;
  }

  handOver(take: Take): void {
    this.#reads.take = take;
    this.resume();
  }
}

/** What is read, and the memory for it. Of its own, as a `Socket` asks for memory before it is one. */
class Reads {
  take: Take = () => true;
  readonly #spare: Buffer[] = [];

  memory(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(pooledBytes);
  }

  come(memory: Buffer, length: number): boolean {
    const again = (error?: Error | null): void => {
      // After an error the bytes may still wait to be written.
      if (!error && this.#spare.length < mostSpare) this.#spare.push(memory);
    };
    const bytes = memory.subarray(0, length);
    if (length > littleBytes) return this.take(bytes, again);
    const copy = Buffer.from(bytes);
    again();
    return this.take(copy, ignore);
  }
}

const ignore = (): void => {};

/** The standard input of this process, as a `PooledInput` where it can be one: call `handOver` in the same tick. */
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
