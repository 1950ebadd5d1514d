/** Counts by name. */
export interface Counter {
  /** Counts one more and returns how many there are then. */
  add(name: string): number;
  /** How many there are. */
  count(name: string): number;
  /** Takes back as many as this counter has counted before. Never throws. */
  remove(name: string, many?: number): void;
}

/** Counts by name that can be kept elsewhere, for all the machines of a gateway. */
export interface AsyncCounter {
  /** Counts one more and resolves to how many there are then. Rejects with `STORE_UNAVAILABLE`; then it has counted nothing. */
  add(name: string): Promise<number>;
  /** Takes back what `add` has counted. Never throws, and the caller does not wait for it. */
  remove(name: string): void;
}

/** Counts what is in this process alone. */
export function ownCounter(): Counter {
  const counts = new Map<string, number>();
  return {
    add(name) {
      const count = (counts.get(name) ?? 0) + 1;
      counts.set(name, count);
      return count;
    },
    count: (name) => counts.get(name) ?? 0,
    remove(name, many = 1) {
      const left = counts.get(name)! - many;
      if (left === 0) counts.delete(name);
      else counts.set(name, left);
    },
  };
}

/** The counter of this machine, for those that could also work with one elsewhere. */
export function asyncCounter(counter: Counter): AsyncCounter {
  return {
    add: async (name) => counter.add(name),
    remove: (name) => counter.remove(name),
  };
}
