import { join } from 'node:path';
import { readSmall, writePrivate } from '../os/files.ts';

/** The age that connections reach in this network before an intermediary cuts them. */
export interface ConnectionAges {
  /** The age to stay below, in milliseconds; undefined while nothing is known. */
  readonly limitMs: number | undefined;
  /** Records the age at which a connection was cut without a known reason. */
  cutAt(ageMs: number): void;
}

/** A connection that was cut without a known reason. */
interface Cut {
  readonly ageMs: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** This many in a row at the same age are no coincidence. */
const minCuts = 3;
/** Younger connections tell more about the network than about the limit of an intermediary. */
const minAgeMs = 20_000;
/** The tolerated spread of ages: a share of the age, and at least what timers and a busy machine account for. */
const spreadShare = 0.02;
const minSpreadMs = 2000;
/** Connections that are cut together have one cause and count once. */
const togetherMs = 10_000;

/**
 * Learns the maximum age of connections to one gateway, from `connection-ages.json` in `directory`. Three cuts in a row
 * at the same age make a limit; the first one that does not match ends it. Losing the file costs three cuts.
 */
export function connectionAges(directory: string, now: () => number = Date.now): ConnectionAges {
  const path = join(directory, 'connection-ages.json');
  return {
    get limitMs() {
      return limitOf(load(path));
    },
    cutAt(ageMs) {
      if (ageMs < minAgeMs) return;
      const cuts = load(path);
      const at = now();
      if (cuts.some((cut) => Math.abs(at - cut.at) < togetherMs)) return;
      const kept = [...cuts, { ageMs: Math.round(ageMs), at }].slice(-minCuts);
      try {
        writePrivate(path, `${JSON.stringify({ version: 1, cuts: kept })}\n`);
      } catch {
        // The home directory is not writable: nothing is learned.
      }
    },
  };
}

function limitOf(cuts: readonly Cut[]): number | undefined {
  if (cuts.length < minCuts) return undefined;
  const ages = cuts.map(({ ageMs }) => ageMs);
  const [youngest, oldest] = [Math.min(...ages), Math.max(...ages)];
  return oldest - youngest <= Math.max(minSpreadMs, oldest * spreadShare) ? youngest : undefined;
}

function load(path: string): readonly Cut[] {
  try {
    const { cuts } = JSON.parse(readSmall(path, 4096).bytes.toString()) as { readonly cuts?: unknown };
    return Array.isArray(cuts) ? cuts.filter((cut) => isCut(cut)).slice(-minCuts) : [];
  } catch {
    return [];
  }
}

function isCut(value: unknown): value is Cut {
  const { ageMs, at } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return typeof ageMs === 'number' && ageMs >= minAgeMs && ageMs < 2 ** 31 && typeof at === 'number';
}
