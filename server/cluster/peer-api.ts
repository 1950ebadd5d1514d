import type { FastifyInstance } from 'fastify';
import type { ProcessMetrics } from '../telemetry/metrics-aggregator.ts';
import type { MetricsSnapshot } from '../telemetry/metrics.ts';
import type { HttpCarriers } from '../entry/http-carrier.ts';
import { toTunnelError } from '../../protocol/errors.ts';
import { controlApp } from '../admin/control.ts';
import type { SessionControl } from '../admin/control.ts';
import { localLocator } from '../resume/local-locator.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';
import { detachedTunnels, displace } from '../resume/displacement.ts';
import type { Sessions } from '../session/sessions.ts';
import { acceptPassedRequests } from './handoff/http-carrier.ts';
import { acceptHandoffs } from './handoff/receiver.ts';
import {
  detachedRequest,
  displaceRequest,
  finalMetrics,
  findRequest,
  notice,
  peerVersion,
  peerVersionField,
  recheckRequest,
  revokeRequest,
} from './peer-messages.ts';

/** The requests that a process answers for the others. */
export interface InstanceSource extends SessionControl {
  readonly live: Pick<Sessions, 'find' | 'records'>;
  readonly relays: ResumableTunnels;
  metrics(): Promise<MetricsSnapshot>;
  /**
   * The process of this name accepts new tunnels now, or its workers do: the tunnels that are open here can last until
   * they end by themselves, and their clients resume them over there. A process of version 0 gives no name.
   */
  onSuperseded(by: string | undefined): void;
  /** No process comes after the one of this name. Resolves when our tunnels have ended, or a process has taken over. */
  stop(by: string | undefined): Promise<void>;
}

export interface InstanceAppOptions {
  /** The carriers of this process, for requests that reach others. */
  readonly carriers?: HttpCarriers;
  /** Ends the tunnels that the settings of this text no longer allow. Rejects when they cannot be read. */
  readonly recheck?: (text: string) => Promise<void>;
  /** Called by the process that leads, with what one that is about to end has counted. */
  readonly onFinalMetrics?: (metrics: ProcessMetrics) => void;
}

/** More than a config file can be. */
const maxTextBytes = 16 * 1024 * 1024;
const maxMetricsBytes = 4 * 1024 * 1024;

/** The listener of one process for the others of the same gateway: access to its socket is permission for all of it. */
export function instanceApp(source: InstanceSource, options: InstanceAppOptions = {}): FastifyInstance {
  const app = controlApp(source);
  app.addHook('onRequest', async (_request, reply) => {
    reply.header(peerVersionField, peerVersion);
  });
  app.post('/find', async (request, reply) => {
    const { sid, holder } = findRequest.parse(request.body);
    try {
      const { sessionId, target, address } = await localLocator(source.relays).find(sid, holder);
      return await reply.send({ sessionId, target, address });
    } catch (error) {
      const { code, message, facts } = toTunnelError(error);
      return reply.code(facts.status).send({ code, detail: message });
    }
  });
  app.post('/revoke', (request, reply) => {
    const { sessionId } = revokeRequest.parse(request.body);
    source.live.find(sessionId)?.abort('REVOKED', 'the rules no longer allow it');
    return reply.send({});
  });
  app.post('/detached', (request, reply) => {
    const found = detachedTunnels(source.live, detachedRequest.parse(request.body));
    return reply.send(found.map(({ sessionId, since }) => ({ sessionId, since })));
  });
  app.post('/displace', (request, reply) => {
    displace(source.live, displaceRequest.parse(request.body).sessionId);
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
  app.post('/last-figures', { bodyLimit: maxMetricsBytes }, (request, reply) => {
    options.onFinalMetrics?.(finalMetrics.parse(request.body));
    return reply.send({});
  });
  app.post('/recheck', { bodyLimit: maxTextBytes }, async (request, reply) => {
    try {
      await options.recheck?.(recheckRequest.parse(request.body).text);
      return await reply.send({});
    } catch (error) {
      return reply.code(422).send({ detail: (error as Error).message });
    }
  });
  acceptHandoffs(app.server, source.relays);
  if (options.carriers) acceptPassedRequests(app, source.relays, options.carriers);
  return app;
}
