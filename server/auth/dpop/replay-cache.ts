import type { Seen } from '../../store/store.ts';

/** Ids of one generation in the memory of this process. */
const maxIds = 10_000;

/**
 * Tells whether an id comes for the first time, and remembers it. Throws `STORE_UNAVAILABLE` when that cannot be known;
 * the id then counts as used.
 */
export interface ReplayMemory {
  isNew(id: string, until: number): Promise<boolean>;
}

/**
 * The memory that all processes of a store share. What this process has just seen it need not ask for: so a flood of
 * one proof costs no write.
 */
export function sharedReplayMemory(seen: Seen): ReplayMemory {
  // Two sets take turns, so that nothing has to be swept; what they forget, `seen` still knows.
  let newer = new Set<string>();
  let older = new Set<string>();
  return {
    async isNew(id, until) {
      if (newer.has(id) || older.has(id)) return false;
      if (newer.size >= maxIds) [older, newer] = [newer, new Set()];
      newer.add(id);
      return seen.add(id, until);
    },
  };
}
