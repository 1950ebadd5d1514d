import type { Counter } from '../../policy/counter.ts';
import { network } from '../accounts/login-throttle.ts';

const windowMs = 60_000;
const maxNetworks = 10_000;

export interface RateLimitOptions {
  readonly now?: () => number;
  /** Counts those of other processes too. */
  readonly shared?: Counter;
}

/** Counts requests of strangers that have to be remembered on the disk, by network, in windows of a minute. */
export class RateLimit {
  readonly #limit: number;
  readonly #now: () => number;
  readonly #shared: Counter | undefined;
  #counts = new Map<string, number>();
  #endsAt = 0;

  /** `limit`: how many one network may make in a window. */
  constructor(limit: number, { now = () => performance.now(), shared }: RateLimitOptions = {}) {
    this.#limit = limit;
    this.#now = now;
    this.#shared = shared;
  }

  /** Counts one request. Gives how long to wait, and 0 when it may go on. */
  admit(address: string): number {
    const now = this.#now();
    if (now >= this.#endsAt) {
      this.#endWindow();
      const endsAt = now + windowMs;
      this.#endsAt = endsAt;
      // The others would count what nobody asks for here any more.
      if (this.#shared) setTimeout(() => this.#endsAt === endsAt && this.#endWindow(), windowMs).unref();
    }
    const key = network(address);
    let count = (this.#counts.get(key) ?? 0) + 1;
    // Who comes from ten thousand networks at once is not held up by a list of them; the list must not grow for ever.
    if (this.#counts.size < maxNetworks || this.#counts.has(key)) {
      this.#counts.set(key, count);
      if (this.#shared) count = this.#shared.add(`request ${key}`);
    }
    return count > this.#limit ? this.#endsAt - now : 0;
  }

  #endWindow(): void {
    for (const [key, count] of this.#counts) this.#shared?.remove(`request ${key}`, count);
    this.#counts = new Map();
  }
}
