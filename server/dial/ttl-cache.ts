/** A value, until a moment of the monotonic clock. */
interface Entry<T> {
  readonly value: T;
  readonly until: number;
}

/** Caches values by name, each for its own time, and evicts the oldest when full. */
export class TtlCache<T> {
  readonly #now: () => number;
  readonly #size: number;
  readonly #entries = new Map<string, Entry<T>>();

  constructor(now: () => number, size: number) {
    this.#now = now;
    this.#size = size;
  }

  get(name: string): T | undefined {
    const entry = this.#entries.get(name);
    return entry && entry.until > this.#now() ? entry.value : undefined;
  }

  set(name: string, value: T, lifeMs: number): void {
    this.#entries.delete(name);
    this.#entries.set(name, { value, until: this.#now() + lifeMs });
    if (this.#entries.size <= this.#size) return;
    const [oldest] = this.#entries.keys();
    this.#entries.delete(oldest!);
  }

  delete(name: string): void {
    this.#entries.delete(name);
  }
}
