import type { Socket } from 'node:net';
import type { WorkPacer } from '../../base/work-pacer.ts';
import { holdReads, releaseReads } from '../../stream/zero-copy/held-reads.ts';

/** How many connections are read again in one turn; the budget of the turn stops them sooner. */
const atATime = 64;
/** While more requests than this wait for their turn, no others are read. */
const maxWaiting = 64;

/**
 * Leaves requests that have come in the same moment with the kernel, until the event loop has time to read them: to parse them is
 * a third of what they cost. It concerns connections that wait for a request (a TLS handshake included), and no others.
 */
export class ReadPacer {
  readonly #pacer: WorkPacer;
  readonly #reading = new Set<Socket>();
  /** In the order in which they were held. */
  readonly #held = new Set<Socket>();
  /** Those that have had a request: they can carry a tunnel in plain requests, and are read again before the others. */
  readonly #again = new WeakSet<Socket>();
  readonly #heldAgain = new Set<Socket>();
  #isScheduled = false;

  constructor(pacer: WorkPacer) {
    this.#pacer = pacer;
  }

  /** A connection waits for its first request from now on. */
  add(socket: Socket): void {
    if (this.#held.size > 0) this.#hold(socket);
    else this.#reading.add(socket);
  }

  /** A connection waits for another request from now on. */
  addAgain(socket: Socket): void {
    this.#again.add(socket);
    this.#reading.add(socket);
  }

  /** It has its request, or has closed: it is read as it is without a pacer. */
  remove(socket: Socket): void {
    this.#reading.delete(socket);
    if (this.#held.delete(socket) || this.#heldAgain.delete(socket)) releaseReads(socket);
  }

  /** Something was read and has to be dealt with now. */
  onRead(): void {
    if (!this.#pacer.isSpent) return;
    for (const socket of this.#reading) this.#hold(socket);
    this.#reading.clear();
  }

  #hold(socket: Socket): void {
    holdReads(socket);
    (this.#again.has(socket) ? this.#heldAgain : this.#held).add(socket);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#releaseSome());
  }

  #releaseSome(): void {
    this.#isScheduled = false;
    for (const socket of this.#heldAgain) this.#release(socket, this.#heldAgain);
    let left = this.#pacer.waiting < maxWaiting ? atATime : 0;
    for (const socket of this.#held) {
      if (left-- <= 0) break;
      this.#release(socket, this.#held);
    }
    if (this.#held.size > 0) this.#schedule();
  }

  #release(socket: Socket, held: Set<Socket>): void {
    held.delete(socket);
    this.#reading.add(socket);
    releaseReads(socket);
  }
}
