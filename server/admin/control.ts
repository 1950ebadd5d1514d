import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { withDeadline } from '../../base/deadline.ts';
import { definedOnly } from '../../base/defined-only.ts';
import { formatTarget } from '../../protocol/target.ts';
import { defaultKillReason } from '../session/end-words.ts';
import type { SessionRecord } from '../session/sessions.ts';

/** A session as `postern-gateway sessions` shows it. Times are milliseconds since the epoch. */
export interface SessionView {
  readonly id: string;
  /** `detached`: it waits for its client, and has no connection. */
  readonly state: 'opening' | 'open' | 'detached';
  readonly entry: string;
  readonly client: string;
  readonly issuer?: string;
  readonly subject?: string;
  readonly signIn?: string;
  readonly tokenId?: string;
  readonly keyThumbprint?: string;
  readonly target?: string;
  readonly address?: string;
  readonly since: number;
  /** Since when it is detached. */
  readonly detachedSince?: number;
}

/** Which sessions to end; of several conditions all must hold. */
export type KillRequest = z.output<typeof killRequest>;

/** The requests that the control socket answers. */
export interface SessionControl {
  sessions(): Iterable<SessionRecord>;
  /**
   * Ends the sessions that match, and revokes the credentials that could resume them where the request says so. Resolves
   * to how many have ended, and what was revoked.
   */
  kill(request: KillRequest): Promise<KillResult>;
}

export interface KillResult {
  readonly ended: number;
  readonly revoked?: RevokedView;
}

/** What a request has revoked. Times are milliseconds since the epoch. */
export interface RevokedView {
  /** For a subject: tokens and sign-ins issued until then are refused. */
  readonly issuedUntil?: number;
  /** The same for tokens of other issuers, whose clocks can be ahead. */
  readonly otherIssuersUntil?: number;
  /** The record is kept until then. */
  readonly keptUntil: number;
  /** Whether it is in the store; otherwise it holds in memory, and is written as soon as the store can be written. */
  readonly stored: boolean;
  /** Why it is not. */
  readonly why?: string;
}

/** The same for the other processes of the gateway. */
export interface PeerControl {
  sessions(): Promise<readonly SessionView[]>;
  kill(request: KillRequest): Promise<PeersKilled>;
  /** The sessions, and which processes have not answered. */
  listSessions(): Promise<ListedSessions>;
}

/** What the other processes have ended. */
export interface PeersKilled {
  readonly ended: number;
  /** The number of processes that have not answered: nothing of theirs has ended. */
  readonly silent: number;
  /** These, in words for people. */
  readonly processes?: readonly string[];
}

/** Sessions of several processes. */
export interface ListedSessions {
  readonly sessions: readonly SessionView[];
  /** The processes that have not answered, in words for people: theirs are missing. */
  readonly silent: readonly string[];
}

/** The revocation of a kill waits this long for the peers to end their sessions. */
const peersFirstMs = 250;

const text = z.string().min(1).max(300);
/**
 * A field that is not known is refused, from other processes too: it could be a condition, and to leave out a condition
 * would end more sessions than were meant.
 */
const killRequest = z
  .strictObject({
    sessions: z.array(text).min(1).max(1000).optional(),
    subject: text.optional(),
    issuer: text.optional(),
    target: text.optional(),
    tokenId: text.optional(),
    keyThumbprint: text.optional(),
    /** Nothing that was issued to the subject before now is trusted any more. */
    revoke: z.boolean().default(false),
    reason: z.string().max(300).default(defaultKillReason),
  })
  .refine(
    ({ sessions, subject, target, tokenId, keyThumbprint }) =>
      sessions ?? subject ?? target ?? tokenId ?? keyThumbprint,
    { message: 'name sessions, a subject, a target, a token or a key' },
  )
  .refine(
    ({ revoke, subject, sessions, target }) => !revoke || (subject !== undefined && !sessions && !target),
    {
      message: 'revoke is for a subject as a whole',
    },
  );

/** The listener for `postern-gateway sessions` and `kill`: access to its socket is permission for both. */
export function controlApp(sessions: SessionControl, peers?: PeerControl): FastifyInstance {
  const app = fastify({ logger: false, forceCloseConnections: true });
  app.get('/sessions', async (_request, reply) => {
    const others = (await peers?.sessions()) ?? [];
    return reply.send([...[...sessions.sessions()].map(toSessionView), ...others]);
  });
  // A response of its own: the commands of an older version read the list above.
  app.get('/sessions-list', async (_request, reply) => {
    const others = await peers?.listSessions();
    const listed: ListedSessions = {
      sessions: [...[...sessions.sessions()].map(toSessionView), ...(others?.sessions ?? [])],
      silent: others?.silent ?? [],
    };
    return reply.send(listed);
  });
  app.post('/kill', async (request, reply) => {
    const { data, error } = killRequest.safeParse(request.body);
    if (data === undefined) return reply.code(400).send({ error: error?.issues[0]?.message });
    const others = peers?.kill(data);
    // A revocation that reaches a peer before this request would end sessions there that nothing counts.
    if (revokes(data)) await withDeadline(undefined, peersFirstMs, () => others).catch(() => {});
    const [here, there] = await Promise.all([sessions.kill(data), others]);
    const { ended = 0, silent = 0, processes } = there ?? {};
    return reply.send({
      ended: here.ended + ended,
      silent,
      ...(silent > 0 && definedOnly({ processes })),
      ...(here.revoked && { revoked: here.revoked }),
    });
  });
  return app;
}

/** Whether the request also revokes what the sessions were opened with. */
function revokes({ revoke, tokenId, keyThumbprint }: KillRequest): boolean {
  return revoke || tokenId !== undefined || keyThumbprint !== undefined;
}

/** Whether a session is among those to end. */
export function matches(request: KillRequest, record: SessionRecord): boolean {
  const { principal, grant } = record;
  return (
    (!request.sessions || request.sessions.includes(record.id)) &&
    (request.subject === undefined || request.subject === principal?.subject) &&
    (request.issuer === undefined || request.issuer === principal?.issuer) &&
    (request.tokenId === undefined || request.tokenId === principal?.tokenId) &&
    (request.keyThumbprint === undefined || request.keyThumbprint === principal?.keyThumbprint) &&
    (request.target === undefined ||
      (grant !== undefined && [formatTarget(grant.target), grant.target.host].includes(request.target)))
  );
}

/** A session as others see it. */
export function toSessionView({
  id,
  entry,
  remoteAddress,
  principal,
  grant,
  dialled,
  offeredAt,
  openedAt,
  detachedAt,
}: SessionRecord): SessionView {
  return {
    id,
    state: stateOf(openedAt, detachedAt),
    entry,
    client: remoteAddress,
    ...(principal && { issuer: principal.issuer, subject: principal.subject }),
    ...definedOnly({
      signIn: principal?.signInId,
      tokenId: principal?.tokenId,
      keyThumbprint: principal?.keyThumbprint,
      target: grant && formatTarget(grant.target),
      address: dialled && formatTarget(dialled),
      detachedSince: detachedAt,
    }),
    since: openedAt ?? offeredAt,
  };
}

function stateOf(openedAt: number | undefined, detachedAt: number | undefined): SessionView['state'] {
  if (detachedAt !== undefined) return 'detached';
  return openedAt === undefined ? 'opening' : 'open';
}
