import { join } from 'node:path';
import { readSmall, writePrivate } from '../os/files.ts';
import { networkId } from '../os/network-id.ts';
import { isEntryName } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';

/** Which entry worked for a gateway from the network that we are in. Losing it costs a retry and nothing else. */
export interface EntryMemory {
  recall(gateway: URL): EntryName | undefined;
  keep(gateway: URL, entry: EntryName): void;
  /** Whether answers that go on are held back on the way; what is known by the `http` entry alone. */
  recallHeldBack(gateway: URL): boolean;
  keepHeldBack(gateway: URL): void;
}

/** More gateways, in more networks, than anybody has; a file that grows without end helps nobody. */
const maxPlaces = 64;

/** Then the usual order is tried again: the gateway may know a better entry by now, or the way may be free. */
const keptMs = 7 * 24 * 3_600_000;

/** A way that is slower than the others is not gone for longer than needed. */
const httpKeptMs = 24 * 3_600_000;

interface Remembered {
  readonly entry: EntryName;
  /** Milliseconds since the epoch. */
  readonly until: number;
  readonly heldBack?: boolean;
}

/** The memory in `entries.json` under the state directory. A file that cannot be read or written is as good as none. */
export function entryCache(
  state: string,
  now: () => number = Date.now,
  network: () => string = networkId,
): EntryMemory {
  const path = join(state, 'entries.json');
  const recall = (entries: ReadonlyMap<string, Remembered>, place: string): Remembered | undefined => {
    const remembered = entries.get(place);
    const leftMs = (remembered?.until ?? 0) - now();
    // A clock that was wrong must not make it last for years.
    return leftMs > 0 && leftMs <= keptMs ? remembered : undefined;
  };
  const keep = (gateway: URL, what: Omit<Remembered, 'until'>): void => {
    const entries = load(path);
    const place = placeOf(gateway, network());
    const before = recall(entries, place);
    if (before?.entry === what.entry && (before.heldBack || !what.heldBack)) return;
    entries.delete(place);
    const until = now() + (what.entry === 'http' ? httpKeptMs : keptMs);
    const kept = [...entries, [place, { ...what, until }] as const].slice(-maxPlaces);
    try {
      writePrivate(path, `${JSON.stringify(Object.fromEntries(kept))}\n`);
    } catch {
      // A home that cannot be written: the next connect tries in the usual order again.
    }
  };
  const recallHere = (gateway: URL): Remembered | undefined =>
    recall(load(path), placeOf(gateway, network()));
  return {
    recall: (gateway) => recallHere(gateway)?.entry,
    keep: (gateway, entry) => keep(gateway, { entry }),
    recallHeldBack: (gateway) => recallHere(gateway)?.heldBack ?? false,
    keepHeldBack: (gateway) => keep(gateway, { entry: 'http', heldBack: true }),
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
  const { entry, until, heldBack = false } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return isEntryName(entry) && typeof until === 'number' && typeof heldBack === 'boolean';
}
