import { entriesByPreference, entryFacts } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Evidence } from '../carrier/connector.ts';
import { ClientError } from '../errors/failure.ts';
import { interruptionOf, isOfEntry } from '../http/refusal.ts';

/** What the plan begins with. */
export interface PlanOptions {
  /** The entry that worked last in this network. */
  readonly recalled?: EntryName | undefined;
  /** The only entry to try. */
  readonly via?: EntryName | undefined;
  /** Whether the token is bound to a key: entries that cannot carry its proof are left out. */
  readonly isBound: boolean;
}

/** Losses of an entry after which the next one is tried too; silence, and a server that says it is unavailable, count for more. */
const wornAt = 3;
const heavyLoss = wornAt / 2;

/**
 * Decides which entry is tried next, by what is known of those before. A refusal is evidence: the next entry is tried at
 * once. A loss is none: the same entry is tried again, and another one beside it only after several losses. Tunnels that
 * would end with their connection come after all others, so those are tried for as long as there is time.
 */
export class EntryPlan {
  readonly #usable: readonly EntryName[];
  /** The same, with the recalled entry first. */
  readonly #order: readonly EntryName[];
  readonly #options: PlanOptions;
  readonly #failures = new Map<EntryName, TunnelError>();
  readonly #refused = new Set<EntryName>();
  readonly #losses = new Map<EntryName, number>();
  readonly #tried = new Set<EntryName>();
  /** Upgrades that had no answer for a while. */
  #swallowed = 0;

  constructor(options: PlanOptions) {
    const { recalled, via, isBound } = options;
    const all = via === undefined ? entriesByPreference : [via];
    this.#usable = all.filter((name) => via !== undefined || !isBound || entryFacts(name).carriesProof);
    const first = this.#usable.filter((name) => name === recalled);
    this.#order = [...first, ...this.#usable.filter((name) => name !== recalled)];
    this.#options = options;
  }

  /** The entry to try; undefined when there is none. `isTimeLeft`: lost requests can be made again. */
  next(isTimeLeft: boolean): EntryName | undefined {
    const open = this.#order.filter((name) => !this.#refused.has(name));
    const name = isTimeLeft ? this.#nextOf(open) : open.find((one) => this.#isWorthOne(one));
    if (name !== undefined) this.#tried.add(name);
    return name;
  }

  #nextOf(open: readonly EntryName[]): EntryName | undefined {
    const { recalled } = this.#options;
    if (recalled !== undefined && open[0] === recalled && !this.#tried.has(recalled)) return recalled;
    const resumable = open.filter((name) => entryFacts(name).resumable);
    const [first, ...others] = resumable.length > 0 ? resumable : open;
    // The first one has a lead of losses; then they take turns.
    const lossesOf = (name: EntryName): number =>
      (this.#losses.get(name) ?? 0) - (name === first ? wornAt - 1 : 0);
    return others.reduce((best, name) => (lossesOf(name) < lossesOf(best!) ? name : best), first);
  }

  #isWorthOne(name: EntryName): boolean {
    // What swallows one upgrade swallows the next one too.
    return !this.#tried.has(name) && (this.#swallowed < 2 || entryFacts(name).upgrade === undefined);
  }

  /** Records that an entry was refused. */
  refused(name: EntryName, failure: TunnelError): void {
    this.#failures.set(name, failure);
    this.#refused.add(name);
    if (failure.code !== 'UPGRADE_REQUIRED') return;
    // The gateway saw no upgrade where there was one: no other will pass.
    for (const other of this.#usable) if (entryFacts(other).upgrade !== undefined) this.#refused.add(other);
  }

  /** Records that a request was lost. One that never got to the gateway, or that the gateway itself put off, says nothing of the entry. */
  lost(name: EntryName, failure: TunnelError): void {
    if (!isOfEntry(failure)) return;
    this.#failures.set(name, failure);
    // Silence was counted when it had lasted for a while.
    if (interruptionOf(failure)?.how === 'silent') return;
    this.#count(name, interruptionOf(failure)?.how === 'unavailable' ? heavyLoss : 1);
  }

  /** Records that a request has had no answer for a while. */
  silent(name: EntryName): void {
    if (entryFacts(name).upgrade !== undefined) this.#swallowed++;
    this.#count(name, heavyLoss);
  }

  #count(name: EntryName, loss: number): void {
    this.#losses.set(name, (this.#losses.get(name) ?? 0) + loss);
  }

  /** What there is against the entries before `name` in the order of preference: of several kinds the weakest, undefined where one was not tried. */
  evidenceFor(name: EntryName): Evidence | undefined {
    const better = this.#betterThan(name);
    if (better.every((one) => this.#refused.has(one))) return 'refused';
    const isTried = better.every((one) => this.#refused.has(one) || this.#losses.has(one));
    return isTried ? 'lost' : undefined;
  }

  /** The best resumable entry before `name` that was lost, and never refused. */
  lostBefore(name: EntryName): EntryName | undefined {
    const better = this.#betterThan(name).filter((one) => entryFacts(one).resumable);
    return better.find((one) => !this.#refused.has(one) && this.#losses.has(one));
  }

  #betterThan(name: EntryName): readonly EntryName[] {
    return this.#usable.slice(0, this.#usable.indexOf(name));
  }

  /** The error when none has succeeded: the first failure in the order of preference, naming the entries that were tried. */
  failure(last: TunnelError): TunnelError {
    const first = this.#usable.map((name) => this.#failures.get(name)).find((one) => one !== undefined);
    if (first === undefined || this.#options.via !== undefined) return last;
    const without = entriesByPreference.filter((name) => !entryFacts(name).carriesProof).join(', ');
    const rest = this.#options.isBound ? `; ${without} is for tokens and tickets only` : '';
    const tried = [...this.#tried].join(', ');
    return new ClientError(first.code, `${first.message} (tried ${tried}${rest})`, {
      cause: first,
      ...(first instanceof ClientError && first.requestId !== undefined
        ? { requestId: first.requestId }
        : {}),
      ...(first instanceof ClientError && first.hint !== undefined ? { hint: first.hint } : {}),
    });
  }
}
