import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { formatTarget } from '../../protocol/target.ts';
import type { SessionRecord } from '../session/sessions.ts';

/** A session as `postern-gateway sessions` shows it. Times are milliseconds since the epoch. */
export interface SessionView {
  readonly id: string;
  readonly state: 'opening' | 'open';
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
}

/** Which sessions to end; of several conditions all must hold. */
export type KillRequest = z.output<typeof killing>;

/** What the control socket can do. */
export interface SessionControl {
  sessions(): Iterable<SessionRecord>;
  /** Ends the sessions that match, and revokes what they could come back with where that is asked. Resolves to how many. */
  kill(killing: KillRequest): Promise<number>;
}

/** The same of the other processes of the gateway. */
export interface ControlledElsewhere {
  sessions(): Promise<readonly SessionView[]>;
  /** `silent` processes have not answered, and nothing of theirs has ended. */
  kill(killing: KillRequest): Promise<{ readonly ended: number; readonly silent: number }>;
}

const text = z.string().min(1).max(300);
const killing = z
  .strictObject({
    sessions: z.array(text).min(1).max(1000).optional(),
    subject: text.optional(),
    issuer: text.optional(),
    target: text.optional(),
    tokenId: text.optional(),
    keyThumbprint: text.optional(),
    /** Nothing that was issued to the subject before now is believed any more. */
    revoke: z.boolean().default(false),
    reason: z.string().max(300).default('ended by the operator'),
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

/** The listener for `postern-gateway sessions` and `kill`: who may open its socket may do what it can. */
export function controlApp(controlled: SessionControl, elsewhere?: ControlledElsewhere): FastifyInstance {
  const app = fastify({ logger: false, forceCloseConnections: true });
  app.get('/sessions', async (_request, reply) => {
    const others = (await elsewhere?.sessions()) ?? [];
    return reply.send([...[...controlled.sessions()].map(toSessionView), ...others]);
  });
  app.post('/kill', async (request, reply) => {
    const asked = killing.safeParse(request.body);
    if (!asked.success) return reply.code(400).send({ error: asked.error.issues[0]?.message });
    const [here, there] = await Promise.all([controlled.kill(asked.data), elsewhere?.kill(asked.data)]);
    return reply.send({ ended: here + (there?.ended ?? 0), silent: there?.silent ?? 0 });
  });
  return app;
}

/** Whether a session is among those to end. */
export function matches(asked: KillRequest, record: SessionRecord): boolean {
  const { principal, grant } = record;
  return (
    (!asked.sessions || asked.sessions.includes(record.id)) &&
    (asked.subject === undefined || asked.subject === principal?.subject) &&
    (asked.issuer === undefined || asked.issuer === principal?.issuer) &&
    (asked.tokenId === undefined || asked.tokenId === principal?.tokenId) &&
    (asked.keyThumbprint === undefined || asked.keyThumbprint === principal?.keyThumbprint) &&
    (asked.target === undefined ||
      (grant !== undefined && [formatTarget(grant.target), grant.target.host].includes(asked.target)))
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
}: SessionRecord): SessionView {
  return {
    id,
    state: openedAt === undefined ? 'opening' : 'open',
    entry,
    client: remoteAddress,
    ...(principal && { issuer: principal.issuer, subject: principal.subject }),
    ...(principal?.signInId !== undefined && { signIn: principal.signInId }),
    ...(principal?.tokenId !== undefined && { tokenId: principal.tokenId }),
    ...(principal?.keyThumbprint !== undefined && { keyThumbprint: principal.keyThumbprint }),
    ...(grant && { target: formatTarget(grant.target) }),
    ...(dialled !== undefined && { address: formatTarget(dialled) }),
    since: openedAt ?? offeredAt,
  };
}
