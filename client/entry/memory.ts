import { join } from 'node:path';
import { readSmall, writePrivate } from '../files.ts';
import { isEntryName } from './entry.ts';
import type { EntryName } from './entry.ts';

/** Which entry worked for a gateway from here. Losing it costs a retry and nothing else. */
export interface EntryMemory {
  recall(gateway: URL): EntryName | undefined;
  keep(gateway: URL, entry: EntryName): void;
}

/** More gateways than anybody has; a file that grows without end helps nobody. */
const mostGateways = 32;

/** Then the usual order is tried again: the gateway may know a better entry by now, or the way may be free. */
const keptMs = 7 * 24 * 3_600_000;

interface Remembered {
  readonly entry: EntryName;
  /** Milliseconds since the epoch. */
  readonly until: number;
}

/** The memory in `entries.json` under the state directory. A file that cannot be read or written is as good as none. */
export function entryMemory(state: string, now: () => number = Date.now): EntryMemory {
  const path = join(state, 'entries.json');
  const recall = (entries: ReadonlyMap<string, Remembered>, gateway: URL): EntryName | undefined => {
    const { entry, until } = entries.get(gateway.href) ?? { until: 0 };
    const leftMs = until - now();
    // A clock that was wrong must not make it last for years.
    return leftMs > 0 && leftMs <= keptMs ? entry : undefined;
  };
  return {
    recall: (gateway) => recall(load(path), gateway),
    keep(gateway, entry) {
      const entries = load(path);
      if (recall(entries, gateway) === entry) return;
      entries.delete(gateway.href);
      const kept = [...entries, [gateway.href, { entry, until: now() + keptMs }] as const].slice(
        -mostGateways,
      );
      try {
        writePrivate(path, `${JSON.stringify(Object.fromEntries(kept))}\n`);
      } catch {
        // A home that cannot be written: the next connect tries in the usual order again.
      }
    },
  };
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
