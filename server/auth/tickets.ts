import { createHash, randomBytes } from 'node:crypto';
import { TunnelError } from '../../protocol/errors.ts';
import { formatPattern, intersectPatterns, parsePattern } from '../../protocol/target-pattern.ts';
import type { Store } from '../store/store.ts';
import type { Principal } from './authenticator.ts';
import { InvalidTokenError } from './jwt/claims.ts';

/** What a ticket is to be good for. */
export interface TicketRequest {
  /** Target patterns; absent: whatever its holder may reach. */
  readonly targets?: readonly string[] | undefined;
  readonly ttlMs: number;
  readonly uses: number;
}

export interface Ticket {
  /** The ticket itself, which is kept nowhere: only its hash is. */
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

/** Short-lived passes of at most 64 characters, for clients that can send a password and nothing else. */
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

/** The least and the most of a ticket. */
export const ticketLimits = { ttlMs: 3_600_000, uses: 10, targets: 32 } as const;

const prefix = 'pt_';
const form = /^pt_[A-Za-z0-9_-]{43}$/;

/** Whether a credential is meant as a ticket rather than a token. */
export function isTicketFormat(credential: string): boolean {
  return credential.startsWith(prefix);
}

interface StoredTicket extends Pick<
  Principal,
  'issuer' | 'subject' | 'targets' | 'tokenId' | 'signInId' | 'keyThumbprint'
> {
  readonly groups: readonly string[];
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly usesLeft: number;
}

/** The tickets in a store. */
export function createTicketStore(store: Store, { now = Date.now }: TicketsOptions = {}): Tickets {
  return {
    async issue(principal, { targets, ttlMs, uses }) {
      const ticket = `${prefix}${randomBytes(32).toString('base64url')}`;
      const narrowed = narrowTargets(principal, targets);
      const { issuer, subject, groups, tokenId, signInId, keyThumbprint, issuedAt } = principal;
      const wanted = now() + ttlMs;
      // A sign-in is renewed for as long as it lasts, and ends the ticket with it; any other token just ends.
      const expiresAt = signInId === undefined ? Math.min(wanted, principal.expiresAt.getTime()) : wanted;
      const stored: StoredTicket = {
        issuer,
        subject,
        groups: [...groups],
        ...(narrowed && { targets: narrowed }),
        ...(tokenId !== undefined && { tokenId }),
        ...(signInId !== undefined && { signInId }),
        // Not needed to use it, but who revokes the key means what was got with it too.
        ...(keyThumbprint !== undefined && { keyThumbprint }),
        issuedAt: issuedAt.getTime(),
        expiresAt,
        usesLeft: uses,
      };
      await store.add('tickets', keyOf(ticket), stored, { expiresAt });
      return { ticket, expiresAt: new Date(expiresAt) };
    },

    async redeem(ticket) {
      const key = keyOf(ticket);
      // A guess must not cost a write.
      if (!form.test(ticket) || (await store.get('tickets', key)) === undefined)
        throw new InvalidTokenError('ticket: unknown, used up or expired');
      let used: StoredTicket | undefined;
      await store.update('tickets', key, (value) => {
        used = value as StoredTicket | undefined;
        return used && used.usesLeft > 1 ? { ...used, usesLeft: used.usesLeft - 1 } : undefined;
      });
      if (!used) throw new InvalidTokenError('ticket: used up');
      const { issuedAt, expiresAt, groups, usesLeft: _, ...who } = used;
      return {
        ...who,
        groups: new Set(groups),
        issuedAt: new Date(issuedAt),
        expiresAt: new Date(expiresAt),
      };
    },
  };
}

/** What both the token and the request for the ticket allow; undefined: neither narrows. Throws `TARGET_DENIED`. */
function narrowTargets(
  principal: Principal,
  asked: readonly string[] | undefined,
): readonly string[] | undefined {
  if (!asked) return principal.targets;
  const wanted = asked.map(parsePattern);
  if (!principal.targets) return wanted.map(formatPattern);
  const allowed = principal.targets.map(parsePattern);
  const both = wanted.flatMap((one) => allowed.flatMap((other) => intersectPatterns(one, other) ?? []));
  if (both.length === 0) throw new TunnelError('TARGET_DENIED', 'your token is not for these targets');
  return both.map(formatPattern);
}

function keyOf(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64url');
}
