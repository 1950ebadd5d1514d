import { network } from './attempts.ts';

const windowMs = 60_000;
const maxNetworks = 10_000;

/** Counts requests of strangers that have to be remembered on the disk, by network, in windows of a minute. */
export class RequestRate {
  readonly #limit: number;
  readonly #now: () => number;
  #counts = new Map<string, number>();
  #endsAt = 0;

  /** `limit`: how many one network may make in a window. */
  constructor(limit: number, now: () => number = () => performance.now()) {
    this.#limit = limit;
    this.#now = now;
  }

  /** Counts one request. Gives how long to wait, and 0 when it may go on. */
  take(address: string): number {
    const now = this.#now();
    if (now >= this.#endsAt) {
      this.#counts = new Map();
      this.#endsAt = now + windowMs;
    }
    const key = network(address);
    const count = (this.#counts.get(key) ?? 0) + 1;
    // Who comes from ten thousand networks at once is not held up by a list of them; the list must not grow for ever.
    if (this.#counts.size < maxNetworks || this.#counts.has(key)) this.#counts.set(key, count);
    return count > this.#limit ? this.#endsAt - now : 0;
  }
}
