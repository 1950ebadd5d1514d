import { createHash } from 'node:crypto';
import type { Store } from '../store/store.ts';
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

/** Loads the list from the store and follows what other processes add to it. `close` stops that. */
export async function openRevocations(
  store: Store,
  options: RevocationsOptions = {},
): Promise<Revocations & { close(): void }> {
  const { keepMs = defaultKeepMs, onError, now = Date.now } = options;
  /** By `nameOf`: of the revocations of a subject only the latest counts. */
  const list = new Map<string, Entry>();
  const listeners = new Set<(revocation: Revocation, reason: string) => void>();
  let forgetAt = now() + forgetMs;

  function apply(entry: Entry): void {
    const name = nameOf(entry.revocation);
    const known = list.get(name);
    if (known && !isLater(entry.revocation, known.revocation)) return;
    list.set(name, entry);
    for (const listener of listeners) listener(entry.revocation, entry.reason);
  }

  async function load(): Promise<void> {
    for (const [, value] of await store.list('revocations')) apply(value as Entry);
  }

  function forgetOld(): void {
    if (now() < forgetAt) return;
    forgetAt = now() + forgetMs;
    for (const [name, { until }] of list) if (until <= now()) list.delete(name);
  }

  await load();
  const stop = store.watch('revocations', () => void load().catch((error: unknown) => onError?.(error)));

  return {
    isRevoked({ issuer, subject, tokenId, signInId, keyThumbprint, issuedAt }) {
      if (list.size === 0) return false;
      if (tokenId !== undefined && list.has(nameOf({ kind: 'token', tokenId }))) return true;
      if (signInId !== undefined && list.has(nameOf({ kind: 'signIn', signInId }))) return true;
      if (keyThumbprint !== undefined && list.has(nameOf({ kind: 'key', keyThumbprint }))) return true;
      return [undefined, issuer].some((of) => {
        const entry = list.get(subjectName(of, subject));
        return entry !== undefined && appliesTo(entry.revocation, { issuer, subject, issuedAt });
      });
    },

    async revoke(revocation, reason) {
      forgetOld();
      const entry: Entry = { revocation, reason, until: now() + keepMs };
      apply(entry);
      const name = nameOf(revocation);
      await store.update(
        'revocations',
        keyOf(name),
        (value) => {
          const known = value as Entry | undefined;
          return known && !isLater(revocation, known.revocation) ? known : entry;
        },
        { expiresAt: entry.until },
      );
    },

    onRevoked(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },

    close: stop,
  };
}

interface Entry {
  readonly revocation: Revocation;
  readonly reason: string;
  /** When every token it could apply to has expired. */
  readonly until: number;
}

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
