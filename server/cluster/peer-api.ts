import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { ProcessMetrics } from '../telemetry/metrics-aggregator.ts';
import type { Figures } from '../telemetry/metrics.ts';
import type { HttpCarriers } from '../entry/http-carrier.ts';
import { toTunnelError } from '../../protocol/errors.ts';
import { controlApp } from '../admin/control.ts';
import type { SessionControl } from '../admin/control.ts';
import { localLocator } from '../resume/local-locator.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';
import type { Sessions } from '../session/sessions.ts';
import { takeCarried } from './handoff/http-carrier.ts';
import { holderShape, holderOf, takeHandedOver } from './handoff/receiver.ts';

/** What a process does for the other ones. */
export interface InstanceSource extends SessionControl {
  readonly live: Pick<Sessions, 'find'>;
  readonly relays: ResumableTunnels;
  metrics(): Promise<Figures>;
  /**
   * The process of this name takes new tunnels now, or those that it leads: what is open here may last as long as it
   * does, and its clients come back over there.
   */
  onSuperseded(by: string | undefined): void;
  /** Nobody comes after the process of this name. Resolves when our tunnels have ended, or somebody has come. */
  stop(by: string | undefined): Promise<void>;
}

export interface InstanceAppOptions {
  /** Its carriers, for requests that reach others. */
  readonly carriers?: HttpCarriers;
  /** What a process that is about to end has counted, for the one that leads. */
  readonly onLastFigures?: (said: ProcessMetrics) => void;
}

const asked = z.strictObject({ sid: z.string(), holder: holderShape });
/** A process that is older than this names nobody. */
const notice = z.object({ by: z.string().optional() });
const maxFiguresBytes = 4 * 1024 * 1024;
const revoked = z.strictObject({ sessionId: z.string() });

/** The listener of one process for the others of the same gateway: who may open its socket may do what it can. */
export function instanceApp(source: InstanceSource, options: InstanceAppOptions = {}): FastifyInstance {
  const app = controlApp(source);
  app.post('/find', async (request, reply) => {
    const { sid, holder } = asked.parse(request.body);
    try {
      const { sessionId, target, address } = await localLocator(source.relays).find(sid, holderOf(holder));
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
  app.post('/succeeded', (request, reply) => {
    source.onSuperseded(notice.parse(request.body).by);
    return reply.send({});
  });
  app.post('/stop', async (request, reply) => {
    await source.stop(notice.parse(request.body).by);
    return reply.send({});
  });
  app.get('/figures', async (_request, reply) => reply.send(await source.metrics()));
  app.post('/last-figures', { bodyLimit: maxFiguresBytes }, (request, reply) => {
    options.onLastFigures?.(request.body as ProcessMetrics);
    return reply.send({});
  });
  takeHandedOver(app.server, source.relays);
  if (options.carriers) takeCarried(app, source.relays, options.carriers);
  return app;
}
