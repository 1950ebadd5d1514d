import { customerNetwork } from '../../net/cidr.ts';
import { createHash } from 'node:crypto';
import type { Counter } from '../../policy/counter.ts';

const windowMs = 60_000;
/** Networks that have a count of their own. The list must not grow for ever. */
const maxNetworks = 10_000;
/** Networks beyond that share these counts: an attacker with ten thousand networks is still counted, in constant memory. */
const sharedCounts = 1024;

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
    const key = this.#keyOf(customerNetwork(address));
    const own = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, own);
    const count = this.#shared?.add(`request ${key}`) ?? own;
    return count > this.#limit ? this.#endsAt - now : 0;
  }

  #keyOf(name: string): string {
    if (this.#counts.size < maxNetworks || this.#counts.has(name)) return name;
    const at = createHash('sha256').update(name).digest().readUInt16BE() % sharedCounts;
    return `others ${at}`;
  }

  #endWindow(): void {
    for (const [key, count] of this.#counts) this.#shared?.remove(`request ${key}`, count);
    this.#counts = new Map();
  }
}
