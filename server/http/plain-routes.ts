import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { toTunnelError } from '../../protocol/errors.ts';
import type { Exchange, PlainEntry } from '../entry/entry.ts';
import { refuseRequest } from '../entry/refusal.ts';
import { connectionPeer } from './client-address.ts';
import { checkPlainRequest } from './request-validation.ts';
import { newRequestId } from './upgrade-dispatcher.ts';
import type { RequestListenerOptions } from './upgrade-dispatcher.ts';

export interface PlainRouteOptions extends Omit<RequestListenerOptions, 'entries' | 'prefix'> {
  readonly entries: readonly PlainEntry[];
}

/** Registers the requests of entries that need no upgrade; `app` must be mounted at the prefix. */
export function plainRoutes(app: FastifyInstance, options: PlainRouteOptions): void {
  void app.register(async (scope) => {
    // Entries read the bodies themselves.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null));
    for (const entry of options.entries) {
      for (const { method, path, mayHaveBody = false } of entry.routes) {
        scope.route({
          method,
          url: `/${path}`,
          // A HEAD would use up the number of a response.
          exposeHeadRoute: false,
          handler(request, reply) {
            reply.hijack();
            handlePlainRequest(entry, { request: request.raw, response: reply.raw, mayHaveBody }, options);
          },
        });
      }
    }
  });
}

interface PlainRequest {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly mayHaveBody: boolean;
}

/** Passes a request of one of its routes to an entry. Takes the response over. */
export function handlePlainRequest(
  entry: PlainEntry,
  { request, response, mayHaveBody }: PlainRequest,
  options: Omit<PlainRouteOptions, 'entries'>,
): void {
  const exchange: Exchange = {
    response,
    remoteAddress: options.remoteAddress(request),
    peer: connectionPeer(request.socket),
    id: newRequestId(),
    signal: closeSignal(response),
  };
  try {
    checkPlainRequest(request, options.origins(), { mayHaveBody });
    entry.handle(request, exchange, options.onOffer);
  } catch (error) {
    const refusal = toTunnelError(error);
    refuseRequest(response, refusal, exchange.id);
    // Some proxies change and repeat requests: only those that would open a tunnel deserve a record.
    if (!mayHaveBody && request.method === 'POST')
      options.onMalformed(exchange, request.url!.split('?')[0]!, refusal);
  }
}

const connectionClosed = new Error('the connection has closed');

/** Aborted when the connection closes before the response is complete; not when the response is complete. */
export function closeSignal(response: ServerResponse): AbortSignal {
  const closed = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) closed.abort(connectionClosed);
  });
  return closed.signal;
}
