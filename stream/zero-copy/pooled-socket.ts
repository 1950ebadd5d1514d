import type { Buffer } from 'node:buffer';
import { Socket } from 'node:net';
import type { SocketConstructorOpts, TcpSocketConnectOpts } from 'node:net';
import { noRelease } from '../../base/buffer-pool.ts';
import { readByEvents } from './direct-reads.ts';
import type { DirectReadable } from './direct-reads.ts';
import { PooledReads, readOn } from './pooled-reads.ts';
import type { Sink } from './pooled-reads.ts';
import { usesZeroCopy } from './setting.ts';

/**
 * A connection that we make, and that can be read without memory of its own. Until `readDirect` is called it is an
 * ordinary socket.
 */
export class PooledSocket extends Socket implements DirectReadable {
  readonly #reads: PooledReads | undefined;

  /** `options` as for `net.connect`; it connects at once. */
  constructor(options: TcpSocketConnectOpts & SocketConstructorOpts) {
    if (!usesZeroCopy()) {
      super(options);
    } else {
      // What is pushed is never released: its memory is left to the garbage collector.
      const reads = new PooledReads(
        (bytes) => this.push(bytes),
        () => readOn(this),
      );
      super({ ...options, onread: reads });
      this.#reads = reads;
    }
    this.connect(options);
  }

  readDirect(sink: Sink): void {
    if (this.#reads === undefined) return readByEvents(this, sink);
    this.#reads.sink = sink;
    // What was read before.
    for (let early; (early = this.read() as Buffer | null) !== null;) sink(early, noRelease);
    this.resume();
  }
}
