import { onAbort } from './deadline.ts';

/** A counting semaphore: at most `limit` permits are out at a time; callers wait in order. */
export class Semaphore {
  readonly #limit: () => number;
  /** In insertion order; a caller that leaves is deleted in constant time. */
  readonly #waiting = new Set<() => void>();
  #acquired = 0;

  /** A `limit` that is a function is asked whenever a permit could be given out. */
  constructor(limit: number | (() => number)) {
    this.#limit = typeof limit === 'number' ? () => limit : limit;
  }

  /**
   * Waits for a permit and resolves to the function that gives it back; calling that again does nothing. Rejects with the
   * reason of `signal` when that aborts first.
   */
  acquire(signal?: AbortSignal): Promise<() => void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason as Error);
        return;
      }
      let removeListener: (() => void) | undefined;
      const admit = (): void => {
        removeListener?.();
        resolve(this.#permit());
      };
      this.#waiting.add(admit);
      removeListener =
        signal &&
        onAbort(signal, () => {
          this.#waiting.delete(admit);
          reject(signal.reason as Error);
        });
      this.#admitNext();
    });
  }

  #permit(): () => void {
    let isOut = true;
    return () => {
      if (!isOut) return;
      isOut = false;
      this.#acquired--;
      this.#admitNext();
    };
  }

  #admitNext(): void {
    while (this.#acquired < this.#limit()) {
      const [next] = this.#waiting;
      if (next === undefined) return;
      this.#waiting.delete(next);
      this.#acquired++;
      next();
    }
  }
}
