import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { TunnelError } from '../../protocol/errors.ts';
import type { Authenticator, Principal } from '../auth/authenticator.ts';
import { startMinimumDelay } from '../auth/minimum-delay.ts';
import type { Revocations } from '../auth/revocations.ts';
import { ticketLimits } from '../auth/tickets.ts';
import type { MadeTicket, Tickets } from '../auth/tickets.ts';
import { refuseRevoked } from '../auth/token-refusal.ts';
import type { RuleConfig } from '../config/config.ts';
import { readProvenCredentials } from '../entry/credentials.ts';
import { connectionPeer } from '../http/client-address.ts';
import type { RemoteAddress } from '../http/client-address.ts';
import { toSessionView } from '../admin/control.ts';
import type { PeerControl } from '../admin/control.ts';
import { formatPattern, parsePattern } from '../../protocol/target-pattern.ts';
import { firstUnreachable, reachablePatterns } from '../policy/reach.ts';
import type { Sessions } from '../session/sessions.ts';

/** The parts of the gateway that the API uses. */
export interface ApiParts {
  /** Of tokens only: a ticket opens tunnels and nothing else. */
  readonly authenticator: () => Authenticator;
  readonly revocations: Pick<Revocations, 'isRevoked'>;
  readonly rules: () => readonly RuleConfig[];
  readonly sessions: Pick<Sessions, 'records'>;
  /** The other processes of the gateway, where there can be any. */
  readonly peers?: Pick<PeerControl, 'sessions'> | undefined;
  readonly tickets: Pick<Tickets, 'issue'>;
  readonly remoteAddress: RemoteAddress;
  /** Called for each ticket that is made. */
  readonly onTicket: (made: MadeTicket) => void;
}

/** A tunnel of the caller's own. Times are as `Date` writes them in JSON. */
export interface OwnSession {
  readonly id: string;
  readonly target: string;
  readonly entry: string;
  readonly client: string;
  readonly since: string;
  /** `detached`: it waits for its client, and has no connection. */
  readonly state: 'open' | 'detached';
  /** Since when it is detached. */
  readonly detachedSince?: string;
}

/** `GET api/access`: the caller's identity, and the hosts that they can reach. */
export interface AccessView {
  readonly issuer: string;
  readonly subject: string;
  readonly groups: readonly string[];
  /** The end of this token; a client renews it before that. */
  readonly until: string;
  /** Target patterns, each with its port. */
  readonly hosts: readonly { readonly pattern: string }[];
  readonly sessions: readonly OwnSession[];
  /** The caller's address, as the gateway sees it. */
  readonly client: string;
}

/** `POST api/tickets`: the answer. */
export interface IssuedTicket {
  readonly ticket: string;
  readonly expiresAt: string;
}

const ticketRequest = z.strictObject({
  targets: z.array(z.string().min(1).max(300).refine(isPattern)).min(1).max(ticketLimits.targets).optional(),
  ttlSeconds: z
    .int()
    .min(1)
    .max(ticketLimits.ttlMs / 1000)
    .default(300),
  uses: z.int().min(1).max(ticketLimits.uses).default(1),
});

/**
 * The requests of programs other than tunnels, as JSON: with a token in `Authorization`, never with a cookie, so that no
 * page of another origin can make them. Errors are for the error handler of the app.
 */
export function apiRoutes(app: FastifyInstance, parts: ApiParts): void {
  app.get('/api/access', async (request, reply) => {
    const principal = await authenticate(request, parts);
    const access: AccessView = {
      ...(await accessOf(principal, parts)),
      client: parts.remoteAddress(request.raw),
    };
    return reply.headers(headers).send(access);
  });
  app.post('/api/tickets', async (request, reply) => {
    const principal = await authenticate(request, parts);
    const requested = ticketRequest.safeParse(request.body ?? {});
    if (!requested.success)
      throw new TunnelError(
        'REQUEST_INVALID',
        `not a valid ticket request: ${describeIssue(requested.error)}`,
      );
    const { targets, ttlSeconds, uses } = requested.data;
    checkReachable(targets ?? [], principal, parts.rules());
    const { ticket, expiresAt } = await parts.tickets.issue(principal, {
      targets,
      ttlMs: ttlSeconds * 1000,
      uses,
    });
    parts.onTicket({ principal, client: parts.remoteAddress(request.raw), targets, uses, expiresAt });
    const issued: IssuedTicket = { ticket, expiresAt: expiresAt.toISOString() };
    return reply.code(201).headers(headers).send(issued);
  });
}

/** Throws `TARGET_DENIED`: a ticket for a host that its holder cannot reach would be refused only when it is used. */
function checkReachable(
  targets: readonly string[],
  principal: Principal,
  rules: readonly RuleConfig[],
): void {
  const denied = firstUnreachable(rules, principal, targets.map(parsePattern));
  if (denied) throw new TunnelError('TARGET_DENIED', `you may not reach ${formatPattern(denied)}`);
}

const headers = { 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' } as const;

/** The principal of the request's token. Rejects with `TOKEN_MISSING` and `TOKEN_INVALID`, always after the same time. */
export async function authenticate(
  request: FastifyRequest,
  parts: Pick<ApiParts, 'authenticator' | 'revocations'>,
): Promise<Principal> {
  const cover = startMinimumDelay();
  try {
    const principal = await parts
      .authenticator()
      .authenticate(readProvenCredentials(request.raw), { peer: connectionPeer(request.raw.socket) });
    refuseRevoked(principal, parts.revocations);
    return principal;
  } catch (error) {
    await cover.over;
    throw error;
  } finally {
    cover.drop();
  }
}

async function accessOf(
  principal: Principal,
  { rules, sessions, peers }: ApiParts,
): Promise<Omit<AccessView, 'client'>> {
  const { issuer, subject, groups, expiresAt } = principal;
  return {
    issuer,
    subject,
    groups: [...groups],
    until: expiresAt.toISOString(),
    hosts: reachablePatterns(rules(), principal).map((pattern) => ({ pattern: formatPattern(pattern) })),
    sessions: await ownSessions(sessions, principal, peers),
  };
}

/** The open tunnels of a person, in all processes of the gateway that respond. */
export async function ownSessions(
  sessions: Pick<Sessions, 'records'>,
  { issuer, subject }: Pick<Principal, 'issuer' | 'subject'>,
  peers?: Pick<PeerControl, 'sessions'>,
): Promise<readonly OwnSession[]> {
  const all = [...[...sessions.records()].map(toSessionView), ...((await peers?.sessions()) ?? [])];
  return all.flatMap(({ id, state, entry, client, target, since, detachedSince, ...owner }) => {
    if (owner.issuer !== issuer || owner.subject !== subject || target === undefined || state === 'opening')
      return [];
    const waiting =
      detachedSince === undefined ? {} : { detachedSince: new Date(detachedSince).toISOString() };
    return [{ id, target, entry, client, since: new Date(since).toISOString(), state, ...waiting }];
  });
}

function isPattern(text: string): boolean {
  try {
    parsePattern(text);
    return true;
  } catch {
    return false;
  }
}

function describeIssue(error: z.ZodError): string {
  const [issue] = error.issues;
  return `${issue?.path.join('.') || 'the body'}: ${issue?.message}`;
}
