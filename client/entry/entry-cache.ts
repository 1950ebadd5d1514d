import { join } from 'node:path';
import { readSmall, writePrivate } from '../os/files.ts';
import { networkId } from '../os/network-id.ts';
import { isEntryName } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';

/** Remembers which entry worked for a gateway in the current network. Losing it costs a retry and nothing else. */
export interface EntryCache {
  recall(gateway: URL): EntryName | undefined;
  keep(gateway: URL, entry: EntryName): void;
  /** Whether an intermediary holds back responses that are still being written; only the `http` entry finds that out. */
  recallBuffering(gateway: URL): boolean;
  keepBuffering(gateway: URL): void;
}

/** Pairs of gateway and network that are remembered: more than a person uses, and the file stays small. */
const maxEntries = 64;

/** After this time the usual order is tried again: the gateway can have a better entry by now, or the network can pass one. */
const keptMs = 7 * 24 * 3_600_000;

/** The `http` entry is slower than the others and is not kept for longer than needed. */
const httpKeptMs = 24 * 3_600_000;

interface Remembered {
  readonly entry: EntryName;
  /** Milliseconds since the epoch. */
  readonly until: number;
  readonly heldBack?: boolean;
}

/** The cache in `entries.json` under the state directory. A file that cannot be read or written counts as empty. */
export function entryCache(
  state: string,
  now: () => number = Date.now,
  network: () => string = networkId,
): EntryCache {
  const path = join(state, 'entries.json');
  const recall = (entries: ReadonlyMap<string, Remembered>, key: string): Remembered | undefined => {
    const remembered = entries.get(key);
    const leftMs = (remembered?.until ?? 0) - now();
    // An entry written while the clock was wrong must not last for years.
    return leftMs > 0 && leftMs <= keptMs ? remembered : undefined;
  };
  const keep = (gateway: URL, what: Omit<Remembered, 'until'>): void => {
    const entries = load(path);
    const key = cacheKey(gateway, network());
    const before = recall(entries, key);
    if (before?.entry === what.entry && (before.heldBack || !what.heldBack)) return;
    entries.delete(key);
    const until = now() + (what.entry === 'http' ? httpKeptMs : keptMs);
    const kept = [...entries, [key, { ...what, until }] as const].slice(-maxEntries);
    try {
      writePrivate(path, `${JSON.stringify(Object.fromEntries(kept))}\n`);
    } catch {
      // The home directory is not writable: the next connect tries in the usual order again.
    }
  };
  const recallHere = (gateway: URL): Remembered | undefined =>
    recall(load(path), cacheKey(gateway, network()));
  return {
    recall: (gateway) => recallHere(gateway)?.entry,
    keep: (gateway, entry) => keep(gateway, { entry }),
    recallBuffering: (gateway) => recallHere(gateway)?.heldBack ?? false,
    keepBuffering: (gateway) => keep(gateway, { entry: 'http', heldBack: true }),
  };
}

/** The key of a gateway in a network; a URL contains no space. */
function cacheKey(gateway: URL, network: string): string {
  return `${gateway.href} ${network}`;
}

function load(path: string): Map<string, Remembered> {
  try {
    const value: unknown = JSON.parse(readSmall(path, 64 * 1024).bytes.toString());
    const pairs = Object.entries(value ?? {});
    return new Map(pairs.filter((pair): pair is [string, Remembered] => isRemembered(pair[1])));
  } catch {
    return new Map();
  }
}

function isRemembered(value: unknown): value is Remembered {
  const { entry, until, heldBack = false } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return isEntryName(entry) && typeof until === 'number' && typeof heldBack === 'boolean';
}
