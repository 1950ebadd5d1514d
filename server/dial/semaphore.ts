/** Lets at most `size` holders in at a time; others wait, in order. */
export interface Turns {
  /** Waits for a turn; `true` once it is there, `false` when the signal came first. */
  take(signal: AbortSignal): Promise<boolean>;
  /** Gives a turn back, to who waits longest. */
  give(): void;
}

export function turns(size: number): Turns {
  let free = size;
  const waiting = new Set<() => void>();

  return {
    take(signal) {
      if (signal.aborted) return Promise.resolve(false);
      if (free > 0) {
        free -= 1;
        return Promise.resolve(true);
      }
      return new Promise((resolve) => {
        const settle = (got: boolean) => {
          waiting.delete(admit);
          signal.removeEventListener('abort', leave);
          resolve(got);
        };
        const admit = () => settle(true);
        const leave = () => settle(false);
        waiting.add(admit);
        signal.addEventListener('abort', leave);
      });
    },

    give() {
      const [next] = waiting;
      if (next) next();
      else free += 1;
    },
  };
}
