import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { upgradeTokens } from '../../protocol/entries.ts';
import { TunnelError, toTunnelError } from '../../protocol/errors.ts';
import type { Challenge } from '../auth/authenticator.ts';
import { errorForCaller, problemOf } from '../entry/refusal.ts';
import type { RemoteAddress } from '../http/client-address.ts';
import { BoundedLog } from '../telemetry/bounded-log.ts';
import type { Log } from '../telemetry/log.ts';
import { errorPage, explainRefusal } from './error-page.ts';
import { pageHeaders } from './page.ts';

export interface ErrorReplyParts {
  readonly publicUrl: URL;
  readonly challenge: () => Challenge;
  readonly remoteAddress: RemoteAddress;
  readonly log: Log;
}

/** Sends an error: a page to a browser, which asks for one, and a problem document (RFC 9457) to any other client. */
export type SendRefusal = (request: FastifyRequest, reply: FastifyReply, error: TunnelError) => FastifyReply;

/** Answers what `app` has no route for, and every error of its routes. Returns what sends the answers. */
export function registerErrorReplies(app: FastifyInstance, parts: ErrorReplyParts): SendRefusal {
  const log = new BoundedLog(parts.log);
  const send = refusalSender(parts);
  app.setNotFoundHandler((request, reply) =>
    send(request, reply, new TunnelError('ENTRY_UNKNOWN', 'there is nothing at this path')),
  );
  app.setErrorHandler((error, request, reply) => {
    const refusal = refusalOf(error);
    if (refusal) {
      const { code, cause } = refusal;
      const reason = cause instanceof Error ? cause.message : refusal.message;
      const client = parts.remoteAddress(request.raw);
      log.write('info', code, { request: request.id, code, client, reason }, 'request refused');
      return send(request, reply, errorForCaller(refusal));
    }
    log.write('error', 'failed', { request: request.id, err: error }, 'a request failed');
    return send(request, reply, toTunnelError(error));
  });
  return send;
}

export function refusalSender(parts: Pick<ErrorReplyParts, 'publicUrl' | 'challenge'>): SendRefusal {
  return (request, reply, error) => sendRefusal(request, reply, error, parts);
}

/** The refusal that an error means; undefined when the gateway is at fault. */
function refusalOf(error: unknown): TunnelError | undefined {
  if (error instanceof TunnelError) return error.facts.layer === 'gateway' ? undefined : error;
  const { statusCode = 500 } = error as { statusCode?: number };
  return statusCode < 500 ? new TunnelError('REQUEST_INVALID', 'bad request', { cause: error }) : undefined;
}

function sendRefusal(
  request: FastifyRequest,
  reply: FastifyReply,
  error: TunnelError,
  { challenge, publicUrl }: Pick<ErrorReplyParts, 'publicUrl' | 'challenge'>,
): FastifyReply {
  const { status } = error.facts;
  if (status === 426)
    void reply.header('Upgrade', upgradeTokens.join(', ')).header('Connection', 'close, Upgrade');
  if (status === 401) void reply.header('WWW-Authenticate', [...challenge().origin]);
  void reply.code(status).header('X-Request-Id', request.id);
  if (wantsPage(request.raw))
    return reply
      .headers(pageHeaders())
      .type('text/html; charset=utf-8')
      .send(errorPage(explainRefusal(error), publicUrl, request.id));
  return reply
    .header('Cache-Control', 'no-store')
    .header('X-Content-Type-Options', 'nosniff')
    .type('application/problem+json')
    .send(JSON.stringify(problemOf(error, request.id)));
}

/** Whether the client names HTML as a type that it accepts (RFC 9110 section 12.5.1), as browsers do and programs do not. */
export function wantsPage({ headers: { accept = '' } }: Pick<IncomingMessage, 'headers'>): boolean {
  return accept
    .toLowerCase()
    .split(',')
    .some((range) => {
      const [type = '', ...parameters] = range.split(';').map((part) => part.trim());
      return type === 'text/html' && !parameters.some((each) => /^q=0(?:\.0{0,3})?$/.test(each));
    });
}
