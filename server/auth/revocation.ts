import { createHash } from 'node:crypto';
import { z } from 'zod';
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
      /** By the gateway's own clock. */
      readonly issuedBefore: number;
      /** How far the clocks of other issuers can be ahead of it: their tokens are refused for so much longer. */
      readonly toleranceMs?: number;
    };

/** The facts of a principal that a revocation is compared with. */
export type Revocable = Pick<
  Principal,
  'issuer' | 'subject' | 'tokenId' | 'signInId' | 'keyThumbprint' | 'issuedAt' | 'ownClock'
>;

/** Whether the revocation applies to the principal. `madeAt`: when it was made, by a clock that was set forward since. */
export function appliesTo(revocation: Revocation, principal: Revocable, madeAt = -Infinity): boolean {
  if (revocation.kind === 'token') return revocation.tokenId === principal.tokenId;
  if (revocation.kind === 'signIn') return revocation.signInId === principal.signInId;
  if (revocation.kind === 'key') return revocation.keyThumbprint === principal.keyThumbprint;
  const { issuedBefore, toleranceMs = 0 } = revocation;
  return (
    revocation.subject === principal.subject &&
    (revocation.issuer === undefined || revocation.issuer === principal.issuer) &&
    // A time of whole seconds can be up to a second too early: a token of the second of the revocation is refused,
    // whether it was issued before or after.
    principal.issuedAt.getTime() <= Math.max(issuedBefore, madeAt) + (principal.ownClock ? 0 : toleranceMs)
  );
}

/** A row of the list. */
export const revocationEntry = z.object({
  revocation: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('token'), tokenId: z.string() }),
    z.object({ kind: z.literal('signIn'), signInId: z.string() }),
    z.object({ kind: z.literal('key'), keyThumbprint: z.string() }),
    z.object({
      kind: z.literal('subject'),
      issuer: z.string().exactOptional(),
      subject: z.string(),
      issuedBefore: z.number(),
      toleranceMs: z.number().exactOptional(),
    }),
  ]),
  reason: z.string(),
  /** When every token it could apply to has expired. */
  until: z.number(),
});

export type RevocationEntry = Readonly<z.output<typeof revocationEntry>>;

/** The name of a revocation's subject, the same for all that replace each other. */
export function nameOf(revocation: Revocation): string {
  if (revocation.kind === 'token') return JSON.stringify(['token', revocation.tokenId]);
  if (revocation.kind === 'signIn') return JSON.stringify(['signIn', revocation.signInId]);
  if (revocation.kind === 'key') return JSON.stringify(['key', revocation.keyThumbprint]);
  return subjectName(revocation.issuer, revocation.subject);
}

export function subjectName(issuer: string | undefined, subject: string): string {
  return JSON.stringify(['subject', issuer ?? null, subject]);
}

/** Whether it refuses more than the other of the same name. */
export function isLater(one: Revocation, other: Revocation): boolean {
  if (one.kind !== 'subject' || other.kind !== 'subject') return false;
  return (
    one.issuedBefore > other.issuedBefore ||
    (one.issuedBefore === other.issuedBefore && (one.toleranceMs ?? 0) > (other.toleranceMs ?? 0))
  );
}

/** A key of constant length, whatever the subject. */
export function keyOf(name: string): string {
  return createHash('sha256').update(name).digest('base64url');
}
