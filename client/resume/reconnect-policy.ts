import { tunnelErrors } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import type { ResumeCause } from '../../protocol/resume-cause.ts';
import type { CarrierEnd } from '../../stream/carrier.ts';

/** Shares of a connection's expected lifetime: its successor is there this early. Those that began together do not all change together. */
const [earliestShare, latestShare] = [0.8, 0.9];
const maxUselessPauseMs = 5000;
/** What cuts one connection can have cut thousands in the same moment: they come back within this time, and each is at most so late. */
const spreadMs = 300;
/** Losses that many connections can have in common; after the others the client itself has noticed something, each at its own time. */
const sharedLosses: ReadonlySet<ResumeCause> = new Set<ResumeCause>(['reset', 'dropped', 'closed']);
/** A better connector is tried after this time, and each time that it failed, after three times as long. */
const defaultBetterAfterMs = 60_000;
const maxBetterAfterMs = 2 * 3_600_000;

/** The cause of a resume, by how the connection ended. A `silent` end is caused by what made it silent. */
export const causeOfEnd: Readonly<Record<Exclude<CarrierEnd['how'], 'silent'>, ResumeCause>> = {
  reset: 'reset',
  dropped: 'dropped',
  closed: 'closed',
  replaced: 'dropped',
  violation: 'reset',
};

/** Whether an error of the gateway ends the attempts (`final` in the error table). */
export function isFinal(code: TunnelErrorCode): boolean {
  return 'final' in tunnelErrors[code];
}

/**
 * The pause after attempt `number` while nothing gets through: short at first, then a second, so that a network that
 * comes back is noticed soon; after minutes five.
 */
export function urgentPauseMs(number: number): number {
  const base = number < 2 ? 250 : number < 300 ? 1000 : 5000;
  return jittered(base);
}

/** The pause after attempt `number` while the old connection still works: exponential backoff up to a minute. */
export function calmPauseMs(number: number): number {
  return jittered(Math.min(60_000, 1000 * 2 ** number));
}

/** The limit of attempt `number`: every eighth takes its time, for networks that are slow rather than broken. */
export function attemptLimitMs(number: number): number {
  return number % 8 === 7 ? 20_000 : 5000;
}

/**
 * The pause before the first attempt after a loss, the last of `useless` connections in a row that were cut at once: a server
 * that accepts only to cut is not asked as fast as it cuts, and one that has cut many connections is not asked by all at once.
 */
export function firstPauseMs(cause: ResumeCause, useless: number): number {
  if (useless >= 2) return jittered(Math.min(maxUselessPauseMs, 125 * 2 ** useless));
  return sharedLosses.has(cause) ? spreadMs * Math.random() : 0;
}

function jittered(ms: number): number {
  return ms * (0.8 + 0.4 * Math.random());
}

/** The timers of reconnections that are planned while the connection works. They do not keep the process alive. */
export class PlannedReconnects {
  readonly #onDue: (cause: 'age' | 'better') => void;
  #betterAfterMs: number;
  #ageTimer: NodeJS.Timeout | undefined;
  #betterTimer: NodeJS.Timeout | undefined;

  constructor(
    onDue: (cause: 'age' | 'better') => void,
    { betterAfterMs = defaultBetterAfterMs }: { readonly betterAfterMs?: number },
  ) {
    this.#onDue = onDue;
    this.#betterAfterMs = betterAfterMs;
  }

  /**
   * Plans for a connection that has just begun. `maxAgeMs`: the age at which it is expected to be cut; `isSecondBest`:
   * whether there is a better connector, which is tried from time to time.
   */
  plan(maxAgeMs: number | undefined, isSecondBest: boolean): void {
    this.stop();
    if (isSecondBest) this.#tryBetterLater();
    if (maxAgeMs === undefined) return;
    const share = earliestShare + (latestShare - earliestShare) * Math.random();
    this.#ageTimer = setTimeout(() => this.#onDue('age'), maxAgeMs * share);
    this.#ageTimer.unref();
  }

  /** The connection is lost: its age does not matter any more. */
  lost(): void {
    clearTimeout(this.#ageTimer);
  }

  stop(): void {
    clearTimeout(this.#ageTimer);
    clearTimeout(this.#betterTimer);
  }

  #tryBetterLater(): void {
    this.#betterTimer = setTimeout(() => {
      this.#betterAfterMs = Math.min(3 * this.#betterAfterMs, maxBetterAfterMs);
      this.#tryBetterLater();
      this.#onDue('better');
    }, jittered(this.#betterAfterMs));
    this.#betterTimer.unref();
  }
}
