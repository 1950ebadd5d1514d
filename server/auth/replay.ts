export interface SeenOptions {
  /** An id is remembered for at least this long. */
  readonly keepMs: number;
  /** The wall clock, in milliseconds since 1970. */
  readonly now: () => number;
}

/**
 * Tells whether an id has come before, and remembers it. Two sets take turns: when the newer one is `keepMs` old, the
 * older one is dropped as a whole, so that nothing has to be swept.
 */
export function seenBefore({ keepMs, now }: SeenOptions): (id: string) => boolean {
  let newer = new Set<string>();
  let older = new Set<string>();
  let begun = now();
  return (id) => {
    const age = now() - begun;
    // A clock that was set back makes it remember longer.
    if (age >= keepMs) {
      older = age >= 2 * keepMs ? new Set() : newer;
      newer = new Set();
      begun = now();
    }
    if (newer.has(id) || older.has(id)) return true;
    newer.add(id);
    return false;
  };
}
