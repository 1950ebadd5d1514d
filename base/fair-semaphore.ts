import { onAbort } from './deadline.ts';

export interface FairSemaphoreOptions {
  /** Permits that are out at a time. */
  readonly limit: number;
  /** The same of one holder. */
  readonly perHolder: number;
  /** Callers that wait at a time, of one holder. */
  readonly maxWaiting: number;
}

interface Holder {
  held: number;
  /** In insertion order; a caller that leaves is deleted in constant time. */
  readonly waiting: Set<() => void>;
}

/** A counting semaphore whose permits are given to holders one after the other, so that many requests of one do not keep the others waiting. */
export class FairSemaphore {
  readonly #options: FairSemaphoreOptions;
  /** Those that hold or wait for something; those that got a permit last are at the end. */
  readonly #holders = new Map<string, Holder>();
  #acquired = 0;

  constructor(options: FairSemaphoreOptions) {
    this.#options = options;
  }

  /**
   * Waits for a permit and resolves to the function that gives it back, which is called once. Rejects with the reason of
   * `signal` when that aborts first, and with a `RangeError` when the holder has too many that wait.
   */
  acquire(name: string, signal: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const holder = this.#holders.get(name) ?? { held: 0, waiting: new Set() };
      if (holder.waiting.size >= this.#options.maxWaiting)
        return reject(new RangeError('too many of this holder wait'));
      this.#holders.set(name, holder);
      const admit = (): void => {
        removeListener();
        resolve(() => this.#giveBack(name, holder));
      };
      const removeListener = onAbort(signal, () => {
        holder.waiting.delete(admit);
        this.#forgetIdle(name, holder);
        reject(signal.reason as Error);
      });
      holder.waiting.add(admit);
      this.#admitNext();
    });
  }

  #giveBack(name: string, holder: Holder): void {
    holder.held--;
    this.#acquired--;
    this.#forgetIdle(name, holder);
    this.#admitNext();
  }

  #forgetIdle(name: string, { held, waiting }: Holder): void {
    if (held === 0 && waiting.size === 0) this.#holders.delete(name);
  }

  #admitNext(): void {
    const { limit, perHolder } = this.#options;
    for (const [name, holder] of this.#holders) {
      if (this.#acquired >= limit) return;
      const [next] = holder.waiting;
      if (next === undefined || holder.held >= perHolder) continue;
      holder.waiting.delete(next);
      holder.held++;
      this.#acquired++;
      // At the end, where this loop meets it again after the others.
      this.#holders.delete(name);
      this.#holders.set(name, holder);
      next();
    }
  }
}
