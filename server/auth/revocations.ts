import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Store } from '../store/store.ts';
import type { Principal } from './authenticator.ts';

/** What is no longer believed. A record is kept as long as a token it could concern may live. */
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

/** What a revocation is compared with. */
export type Revocable = Pick<
  Principal,
  'issuer' | 'subject' | 'tokenId' | 'signInId' | 'keyThumbprint' | 'issuedAt'
>;

/** The list of revocations, and those who must act on a new one. */
export interface Revocations {
  /** Synchronous: asked at every open, from memory. */
  isRevoked(principal: Revocable): boolean;
  /** Durable when it resolves; listeners are called before that. Rejects with `STORE_UNAVAILABLE`; it holds in this process all the same. */
  revoke(revocation: Revocation, reason: string): Promise<void>;
  /** Called for each new revocation, of this process or another. Returns what stops it. */
  onRevoked(listener: (revocation: Revocation, reason: string) => void): () => void;
}

export interface RevocationsOptions {
  /** How long a token can live that the gateway believes. */
  readonly keepMs?: number;
  /** Told when the list cannot be read again after another process has changed it. */
  readonly onError?: (error: unknown) => void;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** The longest that an issuer's tokens may live by configuration, and a day for clocks. */
const defaultKeepMs = 367 * 24 * 3_600_000;
const forgetMs = 3_600_000;

/** Whether the revocation is about the principal. */
export function appliesTo(revocation: Revocation, principal: Revocable): boolean {
  if (revocation.kind === 'token') return revocation.tokenId === principal.tokenId;
  if (revocation.kind === 'signIn') return revocation.signInId === principal.signInId;
  if (revocation.kind === 'key') return revocation.keyThumbprint === principal.keyThumbprint;
  return (
    revocation.subject === principal.subject &&
    (revocation.issuer === undefined || revocation.issuer === principal.issuer) &&
    // A time of whole seconds may be up to a second too early: a token of the second of the revocation is refused,
    // whether it was made before or after.
    principal.issuedAt.getTime() <= revocation.issuedBefore
  );
}

/** Loads the list from the store and follows what other processes add to it. `close` stops that. */
export async function openRevocations(
  store: Store,
  options: RevocationsOptions = {},
): Promise<Revocations & { close(): void }> {
  const { keepMs = defaultKeepMs, onError: onTrouble, now = Date.now } = options;
  const stored = store.table('revocations', entrySchema);
  /** By what `nameOf` says: of a subject the latest counts. */
  const list = new Map<string, Entry>();
  const listeners = new Set<(revocation: Revocation, reason: string) => void>();
  let forgetAt = now() + forgetMs;

  function take(entry: Entry): void {
    const name = nameOf(entry.revocation);
    const known = list.get(name);
    if (known && !isLater(entry.revocation, known.revocation)) return;
    list.set(name, entry);
    for (const listener of listeners) listener(entry.revocation, entry.reason);
  }

  async function load(): Promise<void> {
    for (const [, value] of await stored.list()) take(value);
  }

  function forgetOld(): void {
    if (now() < forgetAt) return;
    forgetAt = now() + forgetMs;
    for (const [name, { until }] of list) if (until <= now()) list.delete(name);
  }

  await load();
  const stop = stored.watch(() => void load().catch((error: unknown) => onTrouble?.(error)));

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
      take(entry);
      const name = nameOf(revocation);
      await stored.update(
        keyOf(name),
        (known) => (known && !isLater(revocation, known.revocation) ? known : entry),
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
  /** When every token it could concern has expired. */
  until: z.number(),
});
type Entry = Readonly<z.output<typeof entrySchema>>;

/** What a revocation is about, the same for all that replace each other. */
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

/** Of one length, whatever the subject is. */
function keyOf(name: string): string {
  return createHash('sha256').update(name).digest('base64url');
}
