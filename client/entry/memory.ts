import { join } from 'node:path';
import { readSmall, writePrivate } from '../files.ts';
import { networkId } from '../network.ts';
import { isEntryName } from './entry.ts';
import type { EntryName } from './entry.ts';

/** Which entry worked for a gateway from the network that we are in. Losing it costs a retry and nothing else. */
export interface EntryMemory {
  recall(gateway: URL): EntryName | undefined;
  keep(gateway: URL, entry: EntryName): void;
}

/** More gateways, in more networks, than anybody has; a file that grows without end helps nobody. */
const mostPlaces = 64;

/** Then the usual order is tried again: the gateway may know a better entry by now, or the way may be free. */
const keptMs = 7 * 24 * 3_600_000;

interface Remembered {
  readonly entry: EntryName;
  /** Milliseconds since the epoch. */
  readonly until: number;
}

/** The memory in `entries.json` under the state directory. A file that cannot be read or written is as good as none. */
export function entryMemory(
  state: string,
  now: () => number = Date.now,
  network: () => string = networkId,
): EntryMemory {
  const path = join(state, 'entries.json');
  const recall = (entries: ReadonlyMap<string, Remembered>, place: string): EntryName | undefined => {
    const { entry, until } = entries.get(place) ?? { until: 0 };
    const leftMs = until - now();
    // A clock that was wrong must not make it last for years.
    return leftMs > 0 && leftMs <= keptMs ? entry : undefined;
  };
  return {
    recall: (gateway) => recall(load(path), placeOf(gateway, network())),
    keep(gateway, entry) {
      const entries = load(path);
      const place = placeOf(gateway, network());
      if (recall(entries, place) === entry) return;
      entries.delete(place);
      const kept = [...entries, [place, { entry, until: now() + keptMs }] as const].slice(-mostPlaces);
      try {
        writePrivate(path, `${JSON.stringify(Object.fromEntries(kept))}\n`);
      } catch {
        // A home that cannot be written: the next connect tries in the usual order again.
      }
    },
  };
}

/** A URL has no space in it. */
function placeOf(gateway: URL, network: string): string {
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
  const { entry, until } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return isEntryName(entry) && typeof until === 'number';
}
