import { join } from 'node:path';
import type { Evidence } from '../carrier/connector.ts';
import { readSmall, writePrivate } from '../os/files.ts';
import { networkId } from '../os/network-id.ts';
import { entriesByPreference, entryFacts, isEntryName } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';

/** Remembers which entry worked for a gateway in the current network. Losing it costs a retry and nothing else. */
export interface EntryCache {
  recall(gateway: URL): EntryName | undefined;
  /** Whether what is recalled stands on losses alone, so that a better entry should be tried soon. */
  isProvisional(gateway: URL): boolean;
  /** `evidence` is `refused` where it is absent. */
  keep(gateway: URL, entry: EntryName, evidence?: Evidence): void;
  /** Whether an intermediary holds back responses that are still being written; only the `http` entry finds that out. */
  recallBuffering(gateway: URL): boolean;
  keepBuffering(gateway: URL): void;
}

/** Pairs of gateway and network that are remembered: more than a person uses, and the file stays small. */
const maxEntries = 64;

/** After this time the usual order is tried again: the gateway can have a better entry by now, or the network can pass one. */
const keptMs = 7 * 24 * 3_600_000;

/** The `http` entry is slower than the relay and is not kept for longer than needed. */
const httpKeptMs = 24 * 3_600_000;

/** Tunnels that end with their connection are worth the two requests by which a better entry is found again. */
const fragileKeptMs = 3_600_000;

/** A loss can have had any reason. */
const lostKeptMs = 10 * 60_000;

interface Remembered {
  readonly entry: EntryName;
  /** Milliseconds since the epoch. */
  readonly until: number;
  /** Absent in the files of older versions, which took losses for refusals. */
  readonly evidence?: Evidence;
  readonly heldBack?: boolean;
}

/** How long an entry is kept; 0: not at all. */
function keptFor(entry: EntryName, evidence: Evidence | undefined): number {
  if (entry === entriesByPreference[0]) return keptMs;
  if (!entryFacts(entry).resumable) return evidence === 'refused' ? fragileKeptMs : 0;
  return evidence === 'lost' ? lostKeptMs : httpKeptMs;
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
    if (remembered === undefined) return undefined;
    const leftMs = remembered.until - now();
    // An entry written while the clock was wrong must not last for years, nor one of an older version for a week.
    const isValid = leftMs > 0 && leftMs <= keptFor(remembered.entry, remembered.evidence);
    return isValid ? remembered : undefined;
  };
  const write = (gateway: URL, change: (before: Remembered | undefined) => Remembered | undefined): void => {
    const entries = load(path);
    const key = cacheKey(gateway, network());
    const after = change(recall(entries, key));
    if (after === undefined) return;
    entries.delete(key);
    const kept = [...entries, [key, after] as const].slice(-maxEntries);
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
    isProvisional: (gateway) => recallHere(gateway)?.evidence === 'lost',
    keep: (gateway, entry, evidence = 'refused') =>
      write(gateway, (before) => {
        // Not prolonged by its use, or no other would ever be tried again.
        if (before?.entry === entry && (before.evidence ?? evidence) === evidence) return undefined;
        const ms = keptFor(entry, evidence);
        const heldBack = before?.entry === entry && before.heldBack === true;
        return ms === 0 ? undefined : { entry, evidence, until: now() + ms, ...(heldBack && { heldBack }) };
      }),
    recallBuffering: (gateway) => recallHere(gateway)?.heldBack ?? false,
    keepBuffering: (gateway) =>
      write(gateway, (before) => {
        if (before?.heldBack) return undefined;
        // It says how plain requests work here, and not that nothing better does.
        return { ...(before ?? usual(now() + httpKeptMs)), heldBack: true };
      }),
  };
}

/** What is remembered where nothing speaks against the order of preference. */
function usual(until: number): Remembered {
  return { entry: entriesByPreference[0]!, evidence: 'refused', until };
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
  const { entry, until, evidence, heldBack = false } = (value ?? {}) as Readonly<Record<string, unknown>>;
  const isEvidence = evidence === undefined || evidence === 'refused' || evidence === 'lost';
  return isEntryName(entry) && typeof until === 'number' && isEvidence && typeof heldBack === 'boolean';
}
