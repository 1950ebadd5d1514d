import { subjectName } from './revocation.ts';
import type { Revocable } from './revocation.ts';

/** A clock that was further ahead than this was plainly wrong. */
const maxStepBackMs = 24 * 3_600_000;
/** What the two clocks can differ by without a step. */
const stepMs = 1000;
const maxAhead = 10_000;

/** The wall clock of this process, and the steps that it makes against the monotonic one. */
export class Clock {
  readonly #now: () => number;
  readonly #monotonic: () => number;
  #latest = -Infinity;

  /** `now`: the wall clock, in milliseconds since 1970; `monotonic`: a clock that nothing sets, in milliseconds. */
  constructor(now: () => number, monotonic: () => number) {
    this.#now = now;
    this.#monotonic = monotonic;
  }

  /** To be called with each token that is accepted. */
  observe(): void {
    this.#latest = Math.max(this.#latest, this.#now());
  }

  /** The latest time that the clock had, also when it was set back since. */
  latest(): number {
    const now = this.#now();
    return this.#latest <= now + maxStepBackMs ? Math.max(now, this.#latest) : now;
  }

  /** This moment, for `timeOf`. */
  mark(): ClockMark {
    return { at: this.#now(), monotonic: this.#monotonic() };
  }

  /** What the clock would have shown at a moment, if it had been as it was set since; -Infinity: nothing set it forward. */
  timeOf({ at, monotonic }: ClockMark): number {
    const then = this.#now() - (this.#monotonic() - monotonic);
    return then - at > stepMs ? then : -Infinity;
  }
}

/** A moment, by the wall clock and by the monotonic one. */
export interface ClockMark {
  readonly at: number;
  readonly monotonic: number;
}

/**
 * The tokens of the gateway's own key that were accepted while they were dated later than now: the key was used on a
 * machine whose clock is ahead. A revocation of their subject names each of them, so that new tokens need not wait.
 */
export class AcceptedAhead {
  readonly #tokens = new Map<string, Map<string, Revocable>>();
  #count = 0;

  add(principal: Revocable, now: number): void {
    const { tokenId, signInId, ownClock, issuer, subject, issuedAt } = principal;
    if (!ownClock || signInId !== undefined || tokenId === undefined || issuedAt.getTime() <= now) return;
    if (this.#count >= maxAhead) this.#forgetPast(now);
    const name = subjectName(issuer, subject);
    const known = this.#tokens.get(name) ?? new Map<string, Revocable>();
    if (!known.has(tokenId)) this.#count += 1;
    this.#tokens.set(name, known.set(tokenId, principal));
  }

  /** The ids of those that a revocation of a subject is about, which are forgotten. */
  take({ issuer, subject }: { readonly issuer?: string; readonly subject: string }): readonly string[] {
    return [...this.#tokens].flatMap(([name, known]) => {
      const [first] = known.values();
      if (first?.subject !== subject || (issuer !== undefined && issuer !== first.issuer)) return [];
      this.#tokens.delete(name);
      this.#count -= known.size;
      return [...known.keys()];
    });
  }

  #forgetPast(now: number): void {
    for (const [name, known] of this.#tokens) {
      for (const [tokenId, { issuedAt }] of known) if (issuedAt.getTime() <= now) known.delete(tokenId);
      if (known.size === 0) this.#tokens.delete(name);
    }
    this.#count = [...this.#tokens.values()].reduce((sum, { size }) => sum + size, 0);
  }
}
