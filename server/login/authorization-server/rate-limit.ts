import type { Counter } from '../../policy/counter.ts';
import { network } from '../accounts/login-throttle.ts';

const windowMs = 60_000;
const maxNetworks = 10_000;

export interface RateLimitOptions {
  readonly now?: () => number;
  /** Counts the requests of other processes too. */
  readonly shared?: Counter;
}

/** Counts unauthenticated requests that cost a write to the disk, by network, in windows of a minute. */
export class RateLimit {
  readonly #limit: number;
  readonly #now: () => number;
  readonly #shared: Counter | undefined;
  #counts = new Map<string, number>();
  #endsAt = 0;

  /** `limit`: the most requests of one network in a window. */
  constructor(limit: number, { now = () => performance.now(), shared }: RateLimitOptions = {}) {
    this.#limit = limit;
    this.#now = now;
    this.#shared = shared;
  }

  /** Counts one request. Returns how long to wait, in milliseconds; 0 when the request is admitted. */
  admit(address: string): number {
    const now = this.#now();
    if (now >= this.#endsAt) {
      this.#endWindow();
      const endsAt = now + windowMs;
      this.#endsAt = endsAt;
      // Otherwise the shared counter would still have the requests of a window that is over.
      if (this.#shared) setTimeout(() => this.#endsAt === endsAt && this.#endWindow(), windowMs).unref();
    }
    const key = network(address);
    let count = (this.#counts.get(key) ?? 0) + 1;
    // A list of networks does not stop an attacker with ten thousand of them; the list must not grow for ever.
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
