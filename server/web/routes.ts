import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { TunnelError, toTunnelError } from '../../protocol/errors.ts';
import type { Config } from '../config/config.ts';
import { problemOf } from '../entry/refusal.ts';
import { discoveryDocument } from './discovery.ts';
import { pageStyleSource, startPage } from './start-page.ts';

const pageHeaders = {
  'Content-Security-Policy': `default-src 'none'; style-src '${pageStyleSource}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'Cache-Control': 'no-store',
} as const;

/**
 * What the gateway answers to ordinary requests below its prefix: a page for people, the discovery document for
 * clients, and a clear no for everything else.
 */
export function webRoutes(app: FastifyInstance, config: () => Config): void {
  app.get('/', (_request, reply) =>
    reply.headers(pageHeaders).type('text/html; charset=utf-8').send(startPage(config())),
  );
  app.get('/.well-known/postern', (_request, reply) =>
    reply
      .headers({ 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'max-age=60' })
      .send(discoveryDocument(config())),
  );
  for (const path of ['/tcp/*', '/proxy/*']) {
    app.all(path, (request, reply) =>
      refuseRequest(
        request,
        reply,
        new TunnelError(
          'UPGRADE_REQUIRED',
          'this is a tunnel: ask for it with Upgrade: websocket or connect-tcp',
        ),
      ),
    );
  }
  app.setNotFoundHandler((request, reply) =>
    refuseRequest(request, reply, new TunnelError('ENTRY_UNKNOWN', 'there is nothing at this path')),
  );
  app.setErrorHandler((error, request, reply) => {
    const statusCode = (error as { statusCode?: number }).statusCode ?? 500;
    if (statusCode < 500)
      return refuseRequest(request, reply, new TunnelError('REQUEST_INVALID', 'bad request'));
    request.log.error({ err: error }, 'a request failed');
    return refuseRequest(request, reply, toTunnelError(error));
  });
}

function refuseRequest(request: FastifyRequest, reply: FastifyReply, error: TunnelError): FastifyReply {
  const { status } = error.facts;
  if (status === 426)
    void reply.header('Upgrade', 'websocket, connect-tcp').header('Connection', 'close, Upgrade');
  return reply
    .code(status)
    .header('Cache-Control', 'no-store')
    .header('X-Content-Type-Options', 'nosniff')
    .header('X-Request-Id', request.id)
    .type('application/problem+json')
    .send(JSON.stringify(problemOf(error, request.id)));
}
