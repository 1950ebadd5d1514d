import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { toTunnelError } from '../../protocol/errors.ts';
import { controlApp } from '../listen/control.ts';
import type { Controlled } from '../listen/control.ts';
import { ownTunnels } from '../tunnel/own-tunnels.ts';
import type { Relays } from '../tunnel/relays.ts';
import type { Sessions } from '../tunnel/sessions.ts';
import { holderShape, holderOf, takeHandedOver } from './handed-over.ts';

/** What a process does for the other ones. */
export interface InstanceSource extends Controlled {
  readonly live: Pick<Sessions, 'find'>;
  readonly relays: Relays;
  /** Another process takes new tunnels now: those that are open may last as long as they do, and their clients come back over there. */
  succeeded(): void;
  /** Nobody comes after us. Resolves when the tunnels have ended, or somebody has come. */
  stop(): Promise<void>;
}

const asked = z.strictObject({ sid: z.string(), holder: holderShape });
const revoked = z.strictObject({ sessionId: z.string() });

/** The listener of one process for the others of the same gateway: who may open its socket may do what it can. */
export function instanceApp(source: InstanceSource): FastifyInstance {
  const app = controlApp(source);
  app.post('/find', async (request, reply) => {
    const { sid, holder } = asked.parse(request.body);
    try {
      const { sessionId, target, address } = await ownTunnels(source.relays).find(sid, holderOf(holder));
      return await reply.send({ sessionId, target, address });
    } catch (error) {
      const { code, message, facts } = toTunnelError(error);
      return reply.code(facts.status).send({ code, detail: message });
    }
  });
  app.post('/revoke', (request, reply) => {
    const { sessionId } = revoked.parse(request.body);
    source.live.find(sessionId)?.abort('REVOKED', 'the rules do not allow it any more');
    return reply.send({});
  });
  app.post('/succeeded', (_request, reply) => {
    source.succeeded();
    return reply.send({});
  });
  app.post('/stop', async (_request, reply) => {
    await source.stop();
    return reply.send({});
  });
  takeHandedOver(app.server, source.relays);
  return app;
}
