import { unlink } from 'node:fs/promises';
import { createConnection } from 'node:net';
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import type { ListenAddress } from '../config/config.ts';

export interface AdminSource {
  /** Why no new tunnel would open now; empty when ready. */
  readonly obstacles: readonly string[];
  readonly metrics: { readonly contentType: string; text(): Promise<string> };
}

/**
 * The listener for those who run the gateway: `/healthz` (the process answers), `/readyz` (new tunnels would open),
 * `/metrics`. It is never on the public door.
 */
export function adminApp(source: AdminSource): FastifyInstance {
  const app = fastify({ logger: false, forceCloseConnections: true });
  app.get('/healthz', (_request, reply) => reply.type('text/plain').send('ok\n'));
  app.get('/readyz', (_request, reply) => {
    const { obstacles } = source;
    return reply
      .code(obstacles.length === 0 ? 200 : 503)
      .type('text/plain')
      .send(obstacles.length === 0 ? 'ready\n' : `${obstacles.join('\n')}\n`);
  });
  app.get('/metrics', async (_request, reply) =>
    reply.type(source.metrics.contentType).send(await source.metrics.text()),
  );
  return app;
}

/** Listens where the configuration says; a unix socket that a dead process left behind is replaced. */
export async function listenAt(app: FastifyInstance, address: ListenAddress): Promise<void> {
  if (address.kind === 'tcp') {
    // For `localhost` Fastify would open a second server, which knows nothing of CONNECT.
    const host = address.host === 'localhost' ? '127.0.0.1' : address.host;
    return void (await app.listen({ host, port: address.port }));
  }
  if (!(await isAnswered(address.path))) await unlink(address.path).catch(() => {});
  const before = process.umask(0o177);
  try {
    await app.listen({ path: address.path });
  } finally {
    process.umask(before);
  }
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
