import type { FastifyInstance } from 'fastify';
import { reloadRequest } from './peer-messages.ts';

/** The requests that a worker answers for its supervisor, besides those of `InstanceSource`. */
export interface Worker {
  /** Why no new tunnel would open here now; empty when ready. */
  readonly notReadyReasons: readonly string[];
  /** Continues in a new audit file. */
  reopenAudit(): void;
  /** Reads settings from the text. Resolves to what puts them in place; rejects when they cannot be used. */
  prepare(text: string): Promise<() => void>;
  /** Accepts no new connections; the process ends with its last tunnel. */
  stopAccepting(): void;
}

/** More than a config file can reasonably be. */
const maxTextBytes = 16 * 1024 * 1024;

/** Adds them to the listener of an instance. */
export function workerRoutes(app: FastifyInstance, worker: Worker): void {
  let prepared: (() => void) | undefined;
  app.get('/obstacles', (_request, reply) => reply.send(worker.notReadyReasons));
  app.post('/reopen-audit', (_request, reply) => {
    worker.reopenAudit();
    return reply.send({});
  });
  app.post('/reload', { bodyLimit: maxTextBytes }, async (request, reply) => {
    const reload = reloadRequest.parse(request.body);
    if ('step' in reload) {
      if (reload.step === 'commit') prepared?.();
      prepared = undefined;
      return reply.send({});
    }
    try {
      prepared = await worker.prepare(reload.text);
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
