import type { Buffer } from 'node:buffer';
import { noRelease } from '../../base/buffer-pool.ts';
import type { Release } from '../../base/buffer-pool.ts';
import { ReceiveBuffer } from '../receive-buffer.ts';
import type { Sink } from '../zero-copy/pooled-reads.ts';

/** Bytes that wait for the reader are passed on in portions of about this size, of however many messages. */
export const portionBytes = 64 * 1024;

/** The part of a `Readable` that its read side uses. */
interface Pushable {
  readonly readableLength: number;
  push(bytes: Buffer | null): boolean;
}

/** Received bytes on their way to the reader of a stream: pushed, or passed to its direct sink, as fast as it wants them. */
export class ReadSide {
  readonly #stream: Pushable;
  readonly #buffer = new ReceiveBuffer();
  /** Whether the reader wants bytes; `ended` when its EOF was pushed. */
  #state: 'idle' | 'wanted' | 'ended' = 'idle';
  /** Whether the EOF follows what is buffered. */
  #isComplete = false;
  #directSink: Sink | undefined;

  constructor(stream: Pushable) {
    this.#stream = stream;
  }

  /** Bytes that have arrived and were not read. */
  get unreadBytes(): number {
    return this.#buffer.length + this.#stream.readableLength;
  }

  get isDirect(): boolean {
    return this.#directSink !== undefined;
  }

  /** From now on passes bytes to `sink` instead of pushing them. */
  readDirect(sink: Sink): void {
    this.#directSink = sink;
  }

  /** The reader wants bytes. */
  request(): void {
    if (this.#state === 'idle') this.#state = 'wanted';
    this.#deliver();
  }

  /** A reader that has caught up gets the bytes as they are; for others they are collected. */
  add(bytes: Buffer, release: Release = noRelease): void {
    if (this.#state === 'wanted' && this.unreadBytes === 0) return this.#pass(bytes, release);
    this.#buffer.append(bytes, release);
    this.#deliver();
  }

  /** The EOF has arrived. */
  end(): void {
    this.#isComplete = true;
    this.#deliver();
  }

  /** Drops what was not read. */
  clear(): void {
    this.#buffer.clear();
  }

  #deliver(): void {
    while (this.#state === 'wanted' && this.#buffer.length > 0) {
      const { bytes, release } = this.#buffer.shift(portionBytes);
      this.#pass(bytes, release);
    }
    if (!this.#isComplete || this.#buffer.length > 0 || this.#state === 'ended') return;
    this.#state = 'ended';
    this.#stream.push(null);
  }

  #pass(bytes: Buffer, release: Release): void {
    // What is pushed is never released: its memory is left to the garbage collector.
    const wantsMore = this.#directSink ? this.#directSink(bytes, release) : this.#stream.push(bytes);
    // Either can have asked for more, and received the end.
    if (this.#state !== 'ended') this.#state = wantsMore ? 'wanted' : 'idle';
  }
}
