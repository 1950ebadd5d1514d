import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { TunnelError } from '../../protocol/errors.ts';
import { formatPattern, intersectPatterns, parsePattern } from '../../protocol/target-pattern.ts';
import type { Store } from '../store/store.ts';
import type { Principal } from './authenticator.ts';
import { InvalidTokenError } from './jwt/claims.ts';

/** The limits of a ticket. */
export interface TicketRequest {
  /** Target patterns; absent: everything its holder is allowed to reach. */
  readonly targets?: readonly string[] | undefined;
  readonly ttlMs: number;
  readonly uses: number;
}

export interface Ticket {
  /** The ticket itself. Only its hash is stored. */
  readonly ticket: string;
  readonly expiresAt: Date;
}

/** A ticket that was made, without the ticket. */
export interface MadeTicket {
  readonly principal: Principal;
  readonly client: string;
  readonly targets: readonly string[] | undefined;
  readonly uses: number;
  readonly expiresAt: Date;
}

/** Short-lived credentials of at most 64 characters, for clients that can send a password and nothing else. */
export interface Tickets {
  /** Makes a ticket for the principal of a token. Rejects with `TARGET_DENIED` for targets beyond those of the token. */
  issue(principal: Principal, request: TicketRequest): Promise<Ticket>;
  /** Uses a ticket once. Rejects with `InvalidTokenError`. */
  redeem(ticket: string): Promise<Principal>;
}

export interface TicketsOptions {
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** The maximum lifetime, uses and targets of a ticket. */
export const ticketLimits = { ttlMs: 3_600_000, uses: 10, targets: 32 } as const;

const prefix = 'pt_';
const form = /^pt_[A-Za-z0-9_-]{43}$/;

/** Whether a credential has the form of a ticket rather than of a token. */
export function isTicketFormat(credential: string): boolean {
  return credential.startsWith(prefix);
}

const storedTicket = z.object({
  issuer: z.string(),
  subject: z.string(),
  groups: z.array(z.string()),
  targets: z.array(z.string()).readonly().exactOptional(),
  tokenId: z.string().exactOptional(),
  signInId: z.string().exactOptional(),
  keyThumbprint: z.string().exactOptional(),
  issuedAt: z.number(),
  ownClock: z.literal(true).exactOptional(),
  expiresAt: z.number(),
  usesLeft: z.number(),
});
type StoredTicket = z.output<typeof storedTicket>;

/** The tickets in a store. */
export function createTicketStore(store: Store, { now = Date.now }: TicketsOptions = {}): Tickets {
  const tickets = store.table('tickets', storedTicket);
  return {
    async issue(principal, { targets, ttlMs, uses }) {
      const ticket = `${prefix}${randomBytes(32).toString('base64url')}`;
      const narrowed = narrowTargets(principal, targets);
      const { issuer, subject, groups, tokenId, signInId, keyThumbprint, issuedAt, ownClock } = principal;
      const wanted = now() + ttlMs;
      // A sign-in is renewed for as long as it lasts, and its end ends the ticket; any other token just expires.
      const expiresAt = signInId === undefined ? Math.min(wanted, principal.expiresAt.getTime()) : wanted;
      const stored: StoredTicket = {
        issuer,
        subject,
        groups: [...groups],
        ...(narrowed && { targets: narrowed }),
        ...(tokenId !== undefined && { tokenId }),
        ...(signInId !== undefined && { signInId }),
        // Not needed to redeem it, but revoking the key revokes its tickets too.
        ...(keyThumbprint !== undefined && { keyThumbprint }),
        issuedAt: issuedAt.getTime(),
        ...(ownClock && { ownClock }),
        expiresAt,
        usesLeft: uses,
      };
      await tickets.add(keyOf(ticket), stored, { expiresAt });
      return { ticket, expiresAt: new Date(expiresAt) };
    },

    async redeem(ticket) {
      const key = keyOf(ticket);
      // A guess must not cost a write.
      if (!form.test(ticket) || (await tickets.get(key)) === undefined)
        throw new InvalidTokenError('ticket: unknown, used up or expired');
      let used: StoredTicket | undefined;
      await tickets.update(key, (value) => {
        used = value;
        return used && used.usesLeft > 1 ? { ...used, usesLeft: used.usesLeft - 1 } : undefined;
      });
      if (!used) throw new InvalidTokenError('ticket: used up');
      const { issuedAt, expiresAt, groups, usesLeft: _, ...identity } = used;
      return {
        ...identity,
        groups: new Set(groups),
        issuedAt: new Date(issuedAt),
        expiresAt: new Date(expiresAt),
      };
    },
  };
}

/** The targets that both the token and the request for the ticket allow; undefined: neither narrows. Throws `TARGET_DENIED`. */
function narrowTargets(
  principal: Principal,
  requested: readonly string[] | undefined,
): readonly string[] | undefined {
  if (!requested) return principal.targets;
  const wanted = requested.map(parsePattern);
  if (!principal.targets) return wanted.map(formatPattern);
  const allowed = principal.targets.map(parsePattern);
  const both = wanted.flatMap((one) => allowed.flatMap((other) => intersectPatterns(one, other) ?? []));
  if (both.length === 0) throw new TunnelError('TARGET_DENIED', 'your token is not for these targets');
  return both.map(formatPattern);
}

function keyOf(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64url');
}
