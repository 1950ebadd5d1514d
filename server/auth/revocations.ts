import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Store, Table } from '../store/store.ts';
import type { Principal } from './authenticator.ts';

/** Credentials that are no longer accepted. A record is kept as long as a token it could apply to can live. */
export type Revocation =
  | { readonly kind: 'token'; readonly tokenId: string }
  | { readonly kind: 'signIn'; readonly signInId: string }
  /** Every token that is bound to the key. */
  | { readonly kind: 'key'; readonly keyThumbprint: string }
  /** Everything of a subject that was issued at `issuedBefore` (milliseconds since the epoch) or earlier. */
  | {
      readonly kind: 'subject';
      /** Absent: the subject of every issuer. */
      readonly issuer?: string;
      readonly subject: string;
      readonly issuedBefore: number;
    };

/** The facts of a principal that a revocation is compared with. */
export type Revocable = Pick<
  Principal,
  'issuer' | 'subject' | 'tokenId' | 'signInId' | 'keyThumbprint' | 'issuedAt'
>;

/** The list of revocations, and the listeners that act on a new one. */
export interface Revocations {
  /** Synchronous and from memory, since every open calls it. */
  isRevoked(principal: Revocable): boolean;
  /** Durable when it resolves; listeners are called before that. Rejects with `STORE_UNAVAILABLE`; it holds in this process all the same. */
  revoke(revocation: Revocation, reason: string): Promise<void>;
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
}

/** The maximum lifetime that the configuration allows for an issuer's tokens, and a day for clocks. */
const defaultKeepMs = 367 * 24 * 3_600_000;
const forgetMs = 3_600_000;

/** Whether the revocation applies to the principal. */
export function appliesTo(revocation: Revocation, principal: Revocable): boolean {
  if (revocation.kind === 'token') return revocation.tokenId === principal.tokenId;
  if (revocation.kind === 'signIn') return revocation.signInId === principal.signInId;
  if (revocation.kind === 'key') return revocation.keyThumbprint === principal.keyThumbprint;
  return (
    revocation.subject === principal.subject &&
    (revocation.issuer === undefined || revocation.issuer === principal.issuer) &&
    // A time of whole seconds can be up to a second too early: a token of the second of the revocation is refused,
    // whether it was issued before or after.
    principal.issuedAt.getTime() <= revocation.issuedBefore
  );
}

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

class RevocationList implements Revocations {
  readonly #table: Table<Entry>;
  readonly #options: RevocationsOptions;
  readonly #keepMs: number;
  readonly #now: () => number;
  /** By `nameOf`: of the revocations of a subject only the latest counts. */
  readonly #entries = new Map<string, Entry>();
  readonly #listeners = new Set<RevocationListener>();
  #forgetAt: number;
  #stopWatching: (() => void) | undefined;

  constructor(store: Store, options: RevocationsOptions) {
    const { keepMs = defaultKeepMs, now = Date.now } = options;
    this.#table = store.table('revocations', entrySchema);
    this.#options = options;
    this.#keepMs = keepMs;
    this.#now = now;
    this.#forgetAt = now() + forgetMs;
  }

  isRevoked({ issuer, subject, tokenId, signInId, keyThumbprint, issuedAt }: Revocable): boolean {
    const entries = this.#entries;
    if (entries.size === 0) return false;
    if (tokenId !== undefined && entries.has(nameOf({ kind: 'token', tokenId }))) return true;
    if (signInId !== undefined && entries.has(nameOf({ kind: 'signIn', signInId }))) return true;
    if (keyThumbprint !== undefined && entries.has(nameOf({ kind: 'key', keyThumbprint }))) return true;
    return [undefined, issuer].some((of) => {
      const entry = entries.get(subjectName(of, subject));
      return entry !== undefined && appliesTo(entry.revocation, { issuer, subject, issuedAt });
    });
  }

  async revoke(revocation: Revocation, reason: string): Promise<void> {
    this.#forgetOld();
    const entry: Entry = { revocation, reason, until: this.#now() + this.#keepMs };
    this.#apply(entry);
    await this.#table.update(
      keyOf(nameOf(revocation)),
      (known) => (known && !isLater(revocation, known.revocation) ? known : entry),
      { expiresAt: entry.until },
    );
  }

  onRevoked(listener: RevocationListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async load(): Promise<void> {
    for (const [, value] of await this.#table.list()) this.#apply(value);
  }

  watch(): void {
    this.#stopWatching = this.#table.watch(
      () => void this.load().catch((error: unknown) => this.#options.onError?.(error)),
    );
  }

  close(): void {
    this.#stopWatching?.();
  }

  #apply(entry: Entry): void {
    const name = nameOf(entry.revocation);
    const known = this.#entries.get(name);
    if (known && !isLater(entry.revocation, known.revocation)) return;
    this.#entries.set(name, entry);
    for (const listener of this.#listeners) listener(entry.revocation, entry.reason);
  }

  #forgetOld(): void {
    const now = this.#now();
    if (now < this.#forgetAt) return;
    this.#forgetAt = now + forgetMs;
    for (const [name, { until }] of this.#entries) if (until <= now) this.#entries.delete(name);
  }
}

const entrySchema = z.object({
  revocation: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('token'), tokenId: z.string() }),
    z.object({ kind: z.literal('signIn'), signInId: z.string() }),
    z.object({ kind: z.literal('key'), keyThumbprint: z.string() }),
    z.object({
      kind: z.literal('subject'),
      issuer: z.string().exactOptional(),
      subject: z.string(),
      issuedBefore: z.number(),
    }),
  ]),
  reason: z.string(),
  /** When every token it could apply to has expired. */
  until: z.number(),
});

type Entry = Readonly<z.output<typeof entrySchema>>;

/** The name of a revocation's subject, the same for all that replace each other. */
function nameOf(revocation: Revocation): string {
  if (revocation.kind === 'token') return JSON.stringify(['token', revocation.tokenId]);
  if (revocation.kind === 'signIn') return JSON.stringify(['signIn', revocation.signInId]);
  if (revocation.kind === 'key') return JSON.stringify(['key', revocation.keyThumbprint]);
  return subjectName(revocation.issuer, revocation.subject);
}

function subjectName(issuer: string | undefined, subject: string): string {
  return JSON.stringify(['subject', issuer ?? null, subject]);
}

function isLater(one: Revocation, other: Revocation): boolean {
  return one.kind === 'subject' && other.kind === 'subject' && one.issuedBefore > other.issuedBefore;
}

/** A key of constant length, whatever the subject. */
function keyOf(name: string): string {
  return createHash('sha256').update(name).digest('base64url');
}
