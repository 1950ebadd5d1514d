import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { PeerResponse } from './peer-client.ts';

/** What a worker does for the process that leads it, besides what every process does for the others. */
export interface Worker {
  /** Why no new tunnel would open here now; empty when ready. */
  readonly notReadyReasons: readonly string[];
  /** Goes on in a new audit file. */
  reopenAudit(): void;
  /** Reads settings from the text. Resolves to what puts them in place; rejects when they cannot be used. */
  prepare(text: string): Promise<() => void>;
  /** Takes no new connections; the process ends with its last tunnel. */
  stopAccepting(): void;
}

/** The text of the config file; absent: what was prepared takes effect, or is forgotten. */
const reload = z.union([
  z.strictObject({ text: z.string() }),
  z.strictObject({ step: z.enum(['commit', 'drop']) }),
]);
/** More than a config file can reasonably be. */
const maxTextBytes = 16 * 1024 * 1024;

/** Adds that to the listener of an instance. */
export function workerRoutes(app: FastifyInstance, worker: Worker): void {
  let prepared: (() => void) | undefined;
  app.get('/obstacles', (_request, reply) => reply.send(worker.notReadyReasons));
  app.post('/reopen-audit', (_request, reply) => {
    worker.reopenAudit();
    return reply.send({});
  });
  app.post('/reload', { bodyLimit: maxTextBytes }, async (request, reply) => {
    const asked = reload.parse(request.body);
    if ('step' in asked) {
      if (asked.step === 'commit') prepared?.();
      prepared = undefined;
      return reply.send({});
    }
    try {
      prepared = await worker.prepare(asked.text);
      return await reply.send({});
    } catch (error) {
      return reply.code(422).send({ detail: (error as Error).message });
    }
  });
  app.post('/yield', (_request, reply) => {
    worker.stopAccepting();
    return reply.send({});
  });
}

/** Why a worker has not prepared the settings. */
export function detailOf({ status, body }: PeerResponse): string {
  const { detail } = (body ?? {}) as { detail?: unknown };
  return typeof detail === 'string' ? detail : `it answers ${status}`;
}
