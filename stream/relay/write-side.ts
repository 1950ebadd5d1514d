import type { Buffer } from 'node:buffer';
import type { Relay } from '../../protocol/relay.ts';

/** Below this a tunnel can keep bytes even when all of them together keep too many. */
const minKeptBytes = 64 * 1024;

/** Counts what all resumable tunnels of a process keep for sending it again. */
export interface ReplayBudget {
  /** Counts bytes that are kept; below zero, bytes that no longer are. */
  add(bytes: number): void;
  /** Whether the total is over its limit. A tunnel then keeps next to nothing. */
  readonly isOver: boolean;
}

export interface WriteSideOptions {
  readonly relay: Relay;
  /** How many bytes can be kept now before writing waits. */
  readonly maxUnackedBytes: () => number;
  readonly budget: ReplayBudget | undefined;
}

type Callback = (error?: Error | null) => void;

/**
 * The writer's side of a resumable tunnel: a write completes when there is room for more bytes that may have to be sent
 * again, and the last one when the peer has acknowledged everything.
 */
export class WriteSide {
  readonly #relay: Relay;
  readonly #maxUnackedBytes: () => number;
  readonly #budget: ReplayBudget | undefined;
  #pendingWrite: Callback | undefined;
  #pendingFinal: Callback | undefined;
  /** How many of the bytes that are kept the budget has counted. */
  #countedBytes = 0;

  constructor({ relay, maxUnackedBytes, budget }: WriteSideOptions) {
    this.#relay = relay;
    this.#maxUnackedBytes = maxUnackedBytes;
    this.#budget = budget;
  }

  /** Keeps `bytes` for sending. `callback` is called by `account`. */
  write(bytes: Buffer, callback: Callback): void {
    this.#relay.write(bytes);
    this.#pendingWrite = callback;
  }

  /** Adds the EOF. `callback` is called by `finishIfDelivered`. */
  end(callback: Callback): void {
    this.#relay.end();
    this.#pendingFinal = callback;
  }

  /** Tells the budget what is kept now, and completes a write that has waited for room. */
  account(): void {
    const change = this.#relay.unackedBytes - this.#countedBytes;
    this.#countedBytes += change;
    if (change !== 0) this.#budget?.add(change);
    if (this.#pendingWrite === undefined || !this.#hasRoom()) return;
    const callback = this.#pendingWrite;
    this.#pendingWrite = undefined;
    callback();
  }

  /** Finishes the stream when the peer has acknowledged everything, the EOF too. */
  finishIfDelivered(): void {
    if (this.#pendingFinal === undefined || !this.#relay.isDelivered) return;
    const callback = this.#pendingFinal;
    this.#pendingFinal = undefined;
    callback();
  }

  /** Completes what is pending, with an error if there is one. */
  complete(error?: Error): void {
    const callbacks = [this.#pendingWrite, this.#pendingFinal];
    this.#pendingWrite = undefined;
    this.#pendingFinal = undefined;
    for (const callback of callbacks) callback?.(error);
  }

  #hasRoom(): boolean {
    const limit = this.#budget?.isOver ? minKeptBytes : this.#maxUnackedBytes();
    return this.#relay.unackedBytes < limit;
  }
}
