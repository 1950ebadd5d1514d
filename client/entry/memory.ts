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

/** The memory in `entries.json` under the state directory. A file that cannot be read or written is as good as none. */
export function entryMemory(state: string): EntryMemory {
  const path = join(state, 'entries.json');
  return {
    recall: (gateway) => load(path).get(gateway.href),
    keep(gateway, entry) {
      const entries = load(path);
      if (entries.get(gateway.href) === entry) return;
      entries.delete(gateway.href);
      const kept = [...entries, [gateway.href, entry] as const].slice(-mostGateways);
      try {
        writePrivate(path, `${JSON.stringify(Object.fromEntries(kept))}\n`);
      } catch {
        // A home that cannot be written: the next connect tries in the usual order again.
      }
    },
  };
}

function load(path: string): Map<string, EntryName> {
  try {
    const value: unknown = JSON.parse(readSmall(path, 64 * 1024).bytes.toString());
    const pairs = Object.entries(value ?? {});
    return new Map(pairs.filter((pair): pair is [string, EntryName] => isEntryName(pair[1])));
  } catch {
    return new Map();
  }
}
