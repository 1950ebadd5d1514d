import { join } from 'node:path';
import { readSmall, writePrivate } from '../os/files.ts';

/** How old connections get here before something cuts them. */
export interface ConnectionAges {
  /** The age to stay below, in milliseconds; undefined while nothing is known. */
  readonly limitMs: number | undefined;
  /** Notes the age at which a connection was cut without a reason. */
  cutAt(ageMs: number): void;
}

/** A connection that was cut without a reason. */
interface Cut {
  /** How old it was. */
  readonly ageMs: number;
  /** When that was, in milliseconds since the epoch. */
  readonly at: number;
}

/** So many in a row at the same age are no chance. */
const enough = 3;
/** Younger ones say more about the network than about somebody's limit. */
const youngestMs = 20_000;
/** How much they may differ: a share of the age, and never less than a timer and a busy machine make up. */
const share = 0.02;
const minSpreadMs = 2000;
/** Connections that are cut together have one cause, and their ages tell one thing once. */
const togetherMs = 10_000;

/**
 * The ages at which connections to one gateway were cut, in `connection-ages.json` in `directory`. Three in a row at the
 * same age make a limit; the first one that does not match ends it. Losing the file costs three cuts.
 */
export function connectionAges(directory: string, now: () => number = Date.now): ConnectionAges {
  const path = join(directory, 'connection-ages.json');
  return {
    get limitMs() {
      return limitOf(load(path));
    },
    cutAt(ageMs) {
      if (ageMs < youngestMs) return;
      const cuts = load(path);
      const at = now();
      if (cuts.some((cut) => Math.abs(at - cut.at) < togetherMs)) return;
      const kept = [...cuts, { ageMs: Math.round(ageMs), at }].slice(-enough);
      try {
        writePrivate(path, `${JSON.stringify({ version: 1, cuts: kept })}\n`);
      } catch {
        // A home that cannot be written: nothing is learned there.
      }
    },
  };
}

function limitOf(cuts: readonly Cut[]): number | undefined {
  if (cuts.length < enough) return undefined;
  const ages = cuts.map(({ ageMs }) => ageMs);
  const [youngest, oldest] = [Math.min(...ages), Math.max(...ages)];
  return oldest - youngest <= Math.max(minSpreadMs, oldest * share) ? youngest : undefined;
}

function load(path: string): readonly Cut[] {
  try {
    const { cuts } = JSON.parse(readSmall(path, 4096).bytes.toString()) as { readonly cuts?: unknown };
    return Array.isArray(cuts) ? cuts.filter((cut) => isCut(cut)).slice(-enough) : [];
  } catch {
    return [];
  }
}

function isCut(value: unknown): value is Cut {
  const { ageMs, at } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return typeof ageMs === 'number' && ageMs >= youngestMs && ageMs < 2 ** 31 && typeof at === 'number';
}
