/** How many there are of each name. */
export interface Counter {
  /** Counts one more. Gives how many there are then. */
  add(name: string): number;
  /** Uncounts as many, which this counter has counted. Never throws. */
  remove(name: string, many?: number): void;
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
    remove(name, many = 1) {
      const left = counts.get(name)! - many;
      if (left === 0) counts.delete(name);
      else counts.set(name, left);
    },
  };
}
