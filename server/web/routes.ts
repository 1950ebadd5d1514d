import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { upgradePaths, upgradeTokens } from '../../protocol/entries.ts';
import { TunnelError, toTunnelError } from '../../protocol/errors.ts';
import type { Challenge } from '../auth/authenticator.ts';
import type { Config } from '../config/config.ts';
import { errorForCaller, problemOf } from '../entry/refusal.ts';
import { discoveryDocument } from './discovery.ts';
import { pageHeaders } from './page.ts';
import { startPage } from './start-page.ts';

/**
 * The answers to ordinary requests below the gateway's prefix: a page for people, the discovery document for clients, and
 * a clear refusal of everything else.
 */
export function webRoutes(app: FastifyInstance, config: () => Config, challenge: () => Challenge): void {
  const refuseRequest = (request: FastifyRequest, reply: FastifyReply, error: TunnelError): FastifyReply =>
    sendRefusal(request, reply, { error, challenge: challenge() });
  app.get('/', (_request, reply) =>
    reply.headers(pageHeaders()).type('text/html; charset=utf-8').send(startPage(config())),
  );
  app.get('/.well-known/postern', (_request, reply) =>
    reply
      .headers({ 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'max-age=60' })
      .send(discoveryDocument(config())),
  );
  for (const path of upgradePaths.map((each) => `/${each}`)) {
    app.all(path, (request, reply) =>
      refuseRequest(
        request,
        reply,
        new TunnelError(
          'UPGRADE_REQUIRED',
          `this path is for tunnels: request one with Upgrade: ${upgradeTokens.join(' or ')}`,
        ),
      ),
    );
  }
  app.setNotFoundHandler((request, reply) =>
    refuseRequest(request, reply, new TunnelError('ENTRY_UNKNOWN', 'there is nothing at this path')),
  );
  app.setErrorHandler((error, request, reply) => {
    if (error instanceof TunnelError && error.facts.layer !== 'gateway') {
      const { cause } = error;
      const reason = cause instanceof Error ? cause.message : error.message;
      request.log.info({ code: error.code, client: request.ip, reason }, 'request refused');
      return refuseRequest(request, reply, errorForCaller(error));
    }
    const statusCode = (error as { statusCode?: number }).statusCode ?? 500;
    if (statusCode < 500)
      return refuseRequest(request, reply, new TunnelError('REQUEST_INVALID', 'bad request'));
    request.log.error({ err: error }, 'a request failed');
    return refuseRequest(request, reply, toTunnelError(error));
  });
}

function sendRefusal(
  request: FastifyRequest,
  reply: FastifyReply,
  { error, challenge }: { readonly error: TunnelError; readonly challenge: Challenge },
): FastifyReply {
  const { status } = error.facts;
  if (status === 426)
    void reply.header('Upgrade', upgradeTokens.join(', ')).header('Connection', 'close, Upgrade');
  if (status === 401) void reply.header('WWW-Authenticate', [...challenge.origin]);
  return reply
    .code(status)
    .header('Cache-Control', 'no-store')
    .header('X-Content-Type-Options', 'nosniff')
    .header('X-Request-Id', request.id)
    .type('application/problem+json')
    .send(JSON.stringify(problemOf(error, request.id)));
}
