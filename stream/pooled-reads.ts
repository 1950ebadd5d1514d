import { Buffer } from 'node:buffer';

/** Who says little is read into a memory that all share; what is in it is copied before anybody else is read. */
const shared = Buffer.allocUnsafeSlow(16 * 1024);

/** Who fills that is read into memories of this size, which are used again. */
const pooledBytes = 128 * 1024;

/** Who fills no more than this of one is read into the shared memory again. */
const littleBytes = 8 * 1024;

const mostSpare = 16;
const spare: Memory[] = [];

/** Called when the bytes that were handed over are not needed any more. */
export type Release = (error?: Error | null) => void;

/**
 * Takes bytes that have come. They are good until `release` is called; without an error, their memory is then used
 * again, and until then it may be changed. False asks for no more of them until `resume`.
 */
export type Take = (bytes: Buffer, release: Release) => boolean;

/** The memories that one connection is read into, as Node.js' `onread` asks for them. */
export class PooledReads {
  /** What takes the bytes; it may be exchanged. */
  take: Take;
  /** What is read into now, when it is not the shared memory. */
  #own: Memory | undefined;

  constructor(take: Take) {
    this.take = take;
  }

  readonly buffer = (): Buffer => this.#own?.bytes ?? shared;

  readonly callback = (length: number): boolean => {
    const own = this.#own;
    if (own === undefined) {
      if (length === shared.length) this.#own = memory();
      return this.take(Buffer.from(shared.subarray(0, length)), ignore);
    }
    this.#own = length > littleBytes ? memory() : undefined;
    return this.take(length === pooledBytes ? own.bytes : own.bytes.subarray(0, length), own.release);
  };
}

interface Memory {
  readonly bytes: Buffer;
  readonly release: Release;
}

function memory(): Memory {
  const used = spare.pop();
  if (used !== undefined) return used;
  const fresh: Memory = {
    bytes: Buffer.allocUnsafeSlow(pooledBytes),
    release(error) {
      if (!error && spare.length < mostSpare) spare.push(fresh);
    },
  };
  return fresh;
}

/** Bytes of one memory, of which the second follow the first after a gap: moves them up, so that both lie together. */
export function joined(first: Buffer | undefined, second: Buffer): Buffer {
  if (first === undefined) return second;
  const both = Buffer.from(first.buffer, first.byteOffset, first.length + second.length);
  second.copy(both, first.length);
  return both;
}

/** For bytes whose memory is nobody's but theirs. */
export const ignore: Release = () => {};
