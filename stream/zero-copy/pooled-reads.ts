import { Buffer } from 'node:buffer';
import type { Socket } from 'node:net';

/** Who says little is read into a memory that all share; what is in it is copied before anybody else is read. */
const shared = Buffer.allocUnsafeSlow(16 * 1024);

/** Who fills that is read into memories of this size, which are used again. */
const pooledBytes = 128 * 1024;

/** Who fills no more than this of one is read into the shared memory again. */
const littleBytes = 8 * 1024;

/**
 * Who fills so many lets the others have their turn. Node.js reads one connection up to 32 times before it looks at
 * the next: of 200 that flood at once that is seconds for who only types.
 */
const mostInTurn = 4;

const mostSpare = 16;
const spare: Memory[] = [];

/** Called when the bytes that were handed over are not needed any more. */
export type Release = (error?: Error | null) => void;

/**
 * Takes bytes that have come. They are good until `release` is called; without an error, their memory is then used
 * again, and until then it may be changed. False asks for no more of them until `resume`.
 */
export type Sink = (bytes: Buffer, release: Release) => boolean;

/** The memories that one connection is read into, as Node.js' `onread` asks for them. */
export class PooledReads {
  /** What takes the bytes; it may be exchanged. */
  take: Sink;
  /** What is read into now, when it is not the shared memory. */
  #own: Memory | undefined;
  readonly #goOn: () => void;
  /** How many memories were filled since the others had their turn. */
  #filled = 0;

  /** `goOn` is to have the connection read on, if nobody has asked it to wait. */
  constructor(take: Sink, goOn: () => void) {
    this.take = take;
    this.#goOn = goOn;
  }

  readonly buffer = (): Buffer => this.#own?.bytes ?? shared;

  readonly callback = (length: number): boolean => {
    const own = this.#own;
    if (own === undefined) {
      if (length === shared.length) this.#own = memory();
      return this.take(Buffer.from(shared.subarray(0, length)), ignore);
    }
    this.#own = length > littleBytes ? memory() : undefined;
    const isFull = length === pooledBytes;
    const wantsMore = this.take(isFull ? own.bytes : own.bytes.subarray(0, length), own.release);
    return wantsMore && (!isFull || this.#canContinue());
  };

  #canContinue(): boolean {
    this.#filled = (this.#filled + 1) % mostInTurn;
    if (this.#filled > 0) return true;
    setImmediate(this.#goOn);
    return false;
  }
}

/** Has a connection read on, unless somebody has paused it. */
export function readOn(socket: Socket): void {
  if (!socket.destroyed && !socket.isPaused()) socket.resume();
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
