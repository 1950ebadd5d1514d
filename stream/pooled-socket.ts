import { Buffer } from 'node:buffer';
import { Socket } from 'node:net';
import type { SocketConstructorOpts, TcpSocketConnectOpts } from 'node:net';

/** Who says little is read into a memory that all share; what is in it is copied before anybody else is read. */
const shared = Buffer.allocUnsafeSlow(16 * 1024);

/** Who fills that is read into memories of this size, which are used again. */
const pooledBytes = 128 * 1024;

/** Who fills no more than this of one is read into the shared memory again. */
const littleBytes = 8 * 1024;

const mostSpare = 16;
const spare: Buffer[] = [];

/** Called when the bytes that were handed over are not needed any more. */
export type Release = (error?: Error | null) => void;

/**
 * A connection that we make, and whose bytes may be had without memory of their own. Until `handOver` is called it is a
 * socket like any other.
 */
export class PooledSocket extends Socket {
  #take: ((bytes: Buffer, release: Release) => boolean) | undefined;
  /** What is read into now, when it is not the shared memory. */
  #own: Buffer | undefined;

  /** `options` as for `net.connect`; it connects at once. */
  constructor(options: TcpSocketConnectOpts & SocketConstructorOpts) {
    super({
      ...options,
      onread: { buffer: () => this.#own ?? shared, callback: (length) => this.#read(length) },
    });
    this.connect(options);
  }

  /**
   * From now on hands what comes to `take` instead of `data` listeners. The bytes are good until `release` is called; without an
   * error, their memory is then used again. When `take` gives false, reading stops until `resume`. `end` is told as ever.
   */
  handOver(take: (bytes: Buffer, release: Release) => boolean): void {
    this.#take = take;
    // What came before.
    for (let early; (early = this.read() as Buffer | null) !== null;) take(early, ignore);
    this.resume();
  }

  #read(length: number): boolean {
    const own = this.#own;
    this.#own = length === (own ?? shared).length || (own && length > littleBytes) ? memory() : undefined;
    if (own === undefined) return this.#hand(Buffer.from(shared.subarray(0, length)), ignore);
    return this.#hand(own.subarray(0, length), (error) => {
      if (!error && spare.length < mostSpare) spare.push(own);
    });
  }

  #hand(bytes: Buffer, release: Release): boolean {
    if (this.#take !== undefined) return this.#take(bytes, release);
    // Nobody will say when it is not needed any more.
    return this.push(bytes);
  }
}

function memory(): Buffer {
  return spare.pop() ?? Buffer.allocUnsafeSlow(pooledBytes);
}

const ignore: Release = () => {};
