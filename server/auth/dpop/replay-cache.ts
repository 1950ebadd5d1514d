import type { Seen } from '../../store/store.ts';

/** The size of one generation of ids in this process's memory. */
const maxIds = 10_000;

/**
 * Finds out whether an id is used for the first time, and remembers it until `until` (milliseconds since 1970). Fails with
 * `STORE_UNAVAILABLE` when that cannot be determined; the id then counts as used.
 */
export interface ReplayMemory {
  isNew(id: string, until: number): Promise<boolean>;
}

/**
 * The memory that all processes of a store share. For an id that this process has seen recently the store is not asked, so
 * that a flood of one proof costs no writes.
 */
export function sharedReplayMemory(seen: Seen): ReplayMemory {
  // Two generations, so that nothing has to be swept; the ids that they forget are still in `seen`.
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
