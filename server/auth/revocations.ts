import { withDeadline } from '../../base/deadline.ts';
import type { Store, Table } from '../store/store.ts';
import { skewMs } from './jwt/verify-jwt.ts';
import { appliesTo, isLater, keyOf, nameOf, revocationEntry, subjectName } from './revocation.ts';
import type { Revocable, Revocation, RevocationEntry } from './revocation.ts';
import { AcceptedAhead, Clock } from './token-clocks.ts';
import type { ClockMark } from './token-clocks.ts';

/** The list of revocations, and the listeners that act on a new one. */
export interface Revocations {
  /**
   * Synchronous and from memory, since every open calls it. A token that is not revoked counts as accepted from then on:
   * a revocation of its subject covers it, however far its clock is ahead.
   */
  isRevoked(principal: Revocable): boolean;
  /**
   * Durable when it resolves; listeners are called before that. Rejects with `STORE_UNAVAILABLE`; it holds in this process
   * all the same, and is written as soon as the store can be written.
   */
  revoke(revocation: Revocation, reason: string): Promise<void>;
  /** The same in this process only, for a revocation that another process writes. */
  hold(revocation: Revocation, reason: string): void;
  /**
   * Of everything that this gateway has issued to a subject or accepted so far, nothing is later by its own clock:
   * `issuedBefore` for a revocation now. Milliseconds since 1970.
   */
  now(): number;
  /** The same, and no sign-in of the subject is later, also when the clock was set back before this process began. */
  momentOf(subject: string): Promise<number>;
  /** What was issued to the subject then or earlier is revoked; undefined: nothing is. */
  revokedUntil(issuer: string, subject: string): number | undefined;
  /** How many hold in this process and could not be written yet. */
  readonly unwritten: number;
  /** How long a revocation is kept, in milliseconds: longer than any token that it could apply to lives. */
  readonly keepMs: number;
  /** Calls the listener for each new revocation, of this process or another. Returns the function that removes it. */
  onRevoked(listener: (revocation: Revocation, reason: string) => void): () => void;
}

export interface RevocationsOptions {
  /** The maximum lifetime of a token that the gateway accepts. */
  readonly keepMs?: number;
  /** Called when the list cannot be read again after another process has changed it. */
  readonly onError?: (error: unknown) => void;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
  /** A clock that nothing sets, in milliseconds. */
  readonly monotonic?: () => number;
  /** The time of the latest proof that a sign-in of the subject has, in milliseconds since 1970. */
  readonly latestProof?: (subject: string) => Promise<number>;
}

/** The maximum lifetime that the configuration allows for an issuer's tokens, and a day for clocks. */
const defaultKeepMs = 367 * 24 * 3_600_000;
const forgetMs = 3_600_000;
const retryMs = 1000;
/** A revocation does not wait longer for the store. */
const proofMs = 1000;

/** Loads the list from the store and follows what other processes add to it. Rejects with `STORE_UNAVAILABLE`. */
export async function openRevocations(
  store: Store,
  options: RevocationsOptions = {},
): Promise<Revocations & { close(): void }> {
  const list = new RevocationList(store, options);
  await list.load();
  list.watch();
  return list;
}

type RevocationListener = (revocation: Revocation, reason: string) => void;

/** A revocation with the moment at which it was received; undefined: it is from before this process. */
interface HeldEntry extends RevocationEntry {
  readonly receivedAt: ClockMark | undefined;
}

class RevocationList implements Revocations {
  readonly keepMs: number;
  readonly #table: Table<RevocationEntry>;
  readonly #options: RevocationsOptions;
  readonly #now: () => number;
  readonly #clock: Clock;
  readonly #ahead = new AcceptedAhead();
  /** By `nameOf`: of the revocations of a subject only the latest counts. */
  readonly #entries = new Map<string, HeldEntry>();
  readonly #unwritten = new Map<string, RevocationEntry>();
  readonly #listeners = new Set<RevocationListener>();
  #forgetAt: number;
  #retrying: NodeJS.Timeout | undefined;
  #isLoaded = false;
  #isClosed = false;
  #stopWatching: (() => void) | undefined;

  constructor(store: Store, options: RevocationsOptions) {
    const { keepMs = defaultKeepMs, now = Date.now, monotonic = () => performance.now() } = options;
    this.#table = store.table('revocations', revocationEntry);
    this.#options = options;
    this.keepMs = keepMs;
    this.#now = now;
    this.#clock = new Clock(now, monotonic);
    this.#forgetAt = now() + forgetMs;
  }

  get unwritten(): number {
    return this.#unwritten.size;
  }

  isRevoked(principal: Revocable): boolean {
    if (this.#isListed(principal)) return true;
    this.#clock.observe();
    this.#ahead.add(principal, this.#now());
    return false;
  }

  now(): number {
    return this.#clock.latest();
  }

  async momentOf(subject: string): Promise<number> {
    const { latestProof } = this.#options;
    const latest = await withDeadline(undefined, proofMs, () => latestProof?.(subject) ?? -Infinity).catch(
      () => -Infinity,
    );
    return Math.max(this.now(), latest);
  }

  revokedUntil(issuer: string, subject: string): number | undefined {
    const times = [undefined, issuer].flatMap((of) => {
      const entry = this.#entries.get(subjectName(of, subject));
      return entry?.revocation.kind === 'subject'
        ? [Math.max(entry.revocation.issuedBefore, this.#madeAt(entry))]
        : [];
    });
    return times.length === 0 ? undefined : Math.max(...times);
  }

  async revoke(revocation: Revocation, reason: string): Promise<void> {
    this.#forgetOld();
    const entry: RevocationEntry = { revocation, reason, until: this.#now() + this.keepMs };
    this.#apply(entry);
    await this.#write(entry);
  }

  hold(revocation: Revocation, reason: string): void {
    this.#apply({ revocation, reason, until: this.#now() + this.keepMs });
  }

  onRevoked(listener: RevocationListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Rejects for a row that cannot be read, when those that can are in force. */
  async load(): Promise<void> {
    let damage: Error | undefined;
    const present = new Set<string>();
    const rows = await this.#table.list((error) => (damage ??= error));
    for (const [key, value] of rows) {
      present.add(key);
      this.#apply(value);
    }
    this.#isLoaded = true;
    // The file was replaced by one from before: what was revoked stays so.
    for (const [name, entry] of this.#entries)
      if (!present.has(keyOf(name)) && entry.until > this.#now()) this.#writeLater(entry);
    if (damage) throw damage;
  }

  watch(): void {
    this.#stopWatching = this.#table.watch(
      () => void this.load().catch((error: unknown) => this.#options.onError?.(error)),
    );
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retrying);
    this.#stopWatching?.();
  }

  #isListed(principal: Revocable): boolean {
    const entries = this.#entries;
    if (entries.size === 0) return false;
    const { issuer, subject, tokenId, signInId, keyThumbprint } = principal;
    if (tokenId !== undefined && entries.has(nameOf({ kind: 'token', tokenId }))) return true;
    if (signInId !== undefined && entries.has(nameOf({ kind: 'signIn', signInId }))) return true;
    if (keyThumbprint !== undefined && entries.has(nameOf({ kind: 'key', keyThumbprint }))) return true;
    return [undefined, issuer].some((of) => {
      const entry = entries.get(subjectName(of, subject));
      return entry !== undefined && this.#covers(entry, principal);
    });
  }

  #covers(entry: HeldEntry, principal: Revocable): boolean {
    const { revocation, reason } = entry;
    if (appliesTo(revocation, principal, this.#madeAt(entry))) return true;
    if (revocation.kind !== 'subject' || !isAhead(principal, this.#now())) return false;
    // A token of our own from the future could have been issued before the revocation; none is issued after it.
    if (principal.issuedAt.getTime() > revocation.issuedBefore + skewMs) return false;
    const { tokenId } = principal;
    if (tokenId !== undefined) void this.revoke({ kind: 'token', tokenId }, reason).catch(() => {});
    return true;
  }

  #madeAt({ receivedAt }: HeldEntry): number {
    return receivedAt ? this.#clock.timeOf(receivedAt) : -Infinity;
  }

  #apply(entry: RevocationEntry): void {
    const { revocation, reason } = entry;
    const name = nameOf(revocation);
    const known = this.#entries.get(name);
    if (known && !isLater(revocation, known.revocation)) return;
    this.#entries.set(name, { ...entry, receivedAt: this.#isLoaded ? this.#clock.mark() : undefined });
    for (const listener of this.#listeners) listener(revocation, reason);
    if (revocation.kind !== 'subject') return;
    for (const tokenId of this.#ahead.take(revocation))
      void this.revoke({ kind: 'token', tokenId }, reason).catch(() => {});
  }

  async #write(entry: RevocationEntry): Promise<void> {
    const { revocation, until } = entry;
    try {
      await this.#table.update(
        keyOf(nameOf(revocation)),
        (known) => (known && !isLater(revocation, known.revocation) ? known : entry),
        { expiresAt: until },
      );
    } catch (error) {
      this.#writeLater(entry);
      throw error;
    }
  }

  #writeLater({ revocation, reason, until }: RevocationEntry): void {
    this.#unwritten.set(nameOf(revocation), { revocation, reason, until });
    if (this.#isClosed) return;
    this.#retrying ??= setTimeout(() => void this.#retry(), retryMs).unref();
  }

  async #retry(): Promise<void> {
    try {
      for (const [name, entry] of this.#unwritten) {
        await this.#write(entry);
        if (this.#unwritten.get(name) === entry) this.#unwritten.delete(name);
      }
    } catch {
      // Tried again; the store says in `failure` why.
    }
    this.#retrying = undefined;
    if (this.#unwritten.size > 0 && !this.#isClosed)
      this.#retrying = setTimeout(() => void this.#retry(), retryMs).unref();
  }

  #forgetOld(): void {
    const now = this.#now();
    if (now < this.#forgetAt) return;
    this.#forgetAt = now + forgetMs;
    for (const [name, { until }] of this.#entries) if (until <= now) this.#entries.delete(name);
  }
}

/** Whether a token of our own is dated later than now. The proof of a sign-in is only ever dated after revocations. */
function isAhead({ ownClock, signInId, issuedAt }: Revocable, now: number): boolean {
  return (
    ownClock === true &&
    signInId === undefined &&
    issuedAt.getTime() > now &&
    issuedAt.getTime() <= now + skewMs
  );
}
