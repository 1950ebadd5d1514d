import type { Buffer } from 'node:buffer';
import { Socket } from 'node:net';
import type { SocketConstructorOpts, TcpSocketConnectOpts } from 'node:net';
import type { DirectReadable } from './direct-reads.ts';
import { ignore, PooledReads, readOn } from './pooled-reads.ts';
import type { Sink } from './pooled-reads.ts';

/**
 * A connection that we make, and whose bytes may be had without memory of their own. Until `readDirect` is called it is a
 * socket like any other.
 */
export class PooledSocket extends Socket implements DirectReadable {
  readonly #reads: PooledReads;

  /** `options` as for `net.connect`; it connects at once. */
  constructor(options: TcpSocketConnectOpts & SocketConstructorOpts) {
    // Nobody will say when what is pushed is not needed any more: its memory is left to the collector.
    const reads = new PooledReads(
      (bytes) => this.push(bytes),
      () => readOn(this),
    );
    super({ ...options, onread: reads });
    this.#reads = reads;
    this.connect(options);
  }

  readDirect(take: Sink): void {
    this.#reads.take = take;
    // What came before.
    for (let early; (early = this.read() as Buffer | null) !== null;) take(early, ignore);
    this.resume();
  }
}
