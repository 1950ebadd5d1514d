import { TunnelError } from '../../protocol/errors.ts';
import type { Counter } from './counter.ts';

const minuteMs = 60_000;

/**
 * Counts the tunnels that each principal has opened in the last minute. What a process has counted it takes back a minute
 * later, so that a counter which several processes share has the sum of all of them at any time.
 */
export class OpenRate {
  readonly #counter: Counter;
  readonly #now: () => number;
  /** What is to be taken back, in the order of its time. */
  readonly #recent: { readonly name: string; readonly until: number }[] = [];
  #isExpiring = false;

  constructor(counter: Counter, now: () => number = () => performance.now()) {
    this.#counter = counter;
    this.#now = now;
  }

  /** Counts one that is being opened. Throws `LIMIT_RATE` with the time after which there is room; then it is not counted. */
  count(owner: string, perMinute: number): void {
    this.#expire();
    const name = `opens ${owner}`;
    if (this.#counter.add(name) > perMinute) {
      this.#counter.remove(name);
      throw new TunnelError('LIMIT_RATE', 'you are opening tunnels too quickly', {
        retryAfterMs: this.#roomAfterMs(name, perMinute),
      });
    }
    this.#recent.push({ name, until: this.#now() + minuteMs });
    if (!this.#isExpiring) this.#expireLater();
  }

  /** Exactly, when this process has counted the oldest; otherwise the average distance. */
  #roomAfterMs(name: string, perMinute: number): number {
    const oldest = this.#recent.find((each) => each.name === name);
    return oldest ? Math.max(0, oldest.until - this.#now()) : minuteMs / perMinute;
  }

  #expire(): void {
    const now = this.#now();
    const left = this.#recent.findIndex(({ until }) => until > now);
    for (const { name } of this.#recent.splice(0, left === -1 ? this.#recent.length : left))
      this.#counter.remove(name);
  }

  #expireLater(): void {
    this.#isExpiring = true;
    const interval = setInterval(() => {
      this.#expire();
      if (this.#recent.length > 0) return;
      clearInterval(interval);
      this.#isExpiring = false;
    }, 1000);
    interval.unref();
  }
}
