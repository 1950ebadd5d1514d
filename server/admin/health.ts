import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';

export interface AdminSource {
  /** Why no new tunnel would open now; empty when ready. */
  notReadyReasons(): Promise<readonly string[]>;
  /** Rises by 1 with each upgrade: see `Served`. */
  generation?(): number;
  readonly metrics: { readonly contentType: string; text(): Promise<string> };
}

/**
 * The listener for operators: `/healthz` (the process answers), `/readyz` (new tunnels would open), `/metrics`. It is
 * never on a public listener.
 */
export function adminApp(source: AdminSource): FastifyInstance {
  const app = fastify({ logger: false, forceCloseConnections: true });
  app.get('/healthz', (_request, reply) => reply.type('text/plain').send('ok\n'));
  app.get('/readyz', async (_request, reply) => {
    const reasons = await source.notReadyReasons();
    return reply
      .code(reasons.length === 0 ? 200 : 503)
      .type('text/plain')
      .header('Postern-Generation', String(source.generation?.() ?? 0))
      .send(`${reasons.length === 0 ? 'ready' : reasons.join('\n')}\n${generationLine(source)}`);
  });
  app.get('/metrics', async (_request, reply) =>
    reply.type(source.metrics.contentType).send(await source.metrics.text()),
  );
  return app;
}

/** Says which process answers, after an upgrade too. */
function generationLine(source: AdminSource): string {
  const generation = source.generation?.();
  return generation === undefined ? '' : `generation ${generation}\n`;
}
