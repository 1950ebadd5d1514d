import { Agent, request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import { pipeline } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { toTunnelError } from '../../../protocol/errors.ts';
import type { Exchange } from '../../entry/entry.ts';
import type { HttpCarriers } from '../../entry/http-carrier.ts';
import { carrierRequestMethods, httpEntry } from '../../entry/http.ts';
import type { Carried } from '../../entry/http.ts';
import { connectionPeer } from '../../http/client-address.ts';
import { refuseRequest } from '../../entry/refusal.ts';
import { closeSignal } from '../../http/plain-routes.ts';
import { newRequestId } from '../../http/upgrade-dispatcher.ts';
import { tunnelNotFound } from '../../resume/tunnel-locator.ts';
import type { ResumableTunnels } from '../../resume/resumable-tunnels.ts';
import { peerVersion, peerVersionField } from '../peer-messages.ts';
import { unreachable } from './sender.ts';

/** The fields of a request that the owner of its carrier has to see: it is signed, so that nothing else needs to be trusted. */
const passedFields = ['postern-carrier', 'content-type', 'content-length', 'transfer-encoding'] as const;
/**
 * The owner does not close a connection as soon as it has answered: it can have the whole body before our last, empty,
 * write, and the error of that write would overtake its answer.
 */
const agent = new Agent({ keepAlive: true });
/** Fields that are about one connection only. */
const hopByHopFields = new Set(['connection', 'keep-alive', 'transfer-encoding', 'date']);

/**
 * Has the process behind `socketPath` answer a request of one of its carriers. Answers in any case: with the response of
 * that process, or that the carrier ended with it.
 */
export function passRequest(
  socketPath: string,
  request: IncomingMessage,
  { direction, exchange: { response, id } }: Carried,
): void {
  const toOwner = httpRequest({
    socketPath,
    agent,
    method: request.method ?? 'GET',
    path: `/http/${direction}`,
    headers: {
      host: 'localhost',
      [peerVersionField]: String(peerVersion),
      ...filterFields(request.headers, (name) => isPassed(name)),
    },
  });
  // Silence is to be expected here.
  response.socket?.setTimeout(0);
  response.socket?.setNoDelay(true);
  response.on('error', () => {});
  response.once('close', () => toOwner.destroy());
  toOwner.once('response', (answer) => {
    response.writeHead(
      answer.statusCode ?? 502,
      filterFields(answer.headers, (name) => !hopByHopFields.has(name)),
    );
    response.flushHeaders();
    pipeline(answer, response, () => {});
  });
  toOwner.on('error', (error: NodeJS.ErrnoException) => {
    // An answer that has begun is cut off by this.
    const hasEnded = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
    refuseRequest(response, hasEnded ? tunnelNotFound() : unreachable(error), id);
  });
  pipeline(request, toOwner, () => {});
}

/** Accepts the requests for carriers of this process that have reached another one. */
export function acceptPassedRequests(
  app: FastifyInstance,
  relays: ResumableTunnels,
  carriers: HttpCarriers,
): void {
  const entry = httpEntry('/', { tunnels: () => relays, carriers });
  void app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null));
    for (const [direction, method] of Object.entries(carrierRequestMethods)) {
      scope.route({
        method,
        url: `/http/${direction}`,
        exposeHeadRoute: false,
        handler({ raw: request }, reply) {
          reply.hijack();
          const exchange: Exchange = {
            response: reply.raw,
            remoteAddress: '',
            peer: connectionPeer(request.socket),
            id: newRequestId(),
            signal: closeSignal(reply.raw),
          };
          try {
            entry.handle(request, exchange, () => {});
          } catch (error) {
            refuseRequest(exchange.response, toTunnelError(error), exchange.id);
          }
        },
      });
    }
  });
}

function isPassed(name: string): boolean {
  return (passedFields as readonly string[]).includes(name);
}

function filterFields(headers: IncomingHttpHeaders, isKept: (name: string) => boolean): OutgoingHttpHeaders {
  return Object.fromEntries(
    Object.entries(headers).filter(([name, value]) => value !== undefined && isKept(name)),
  );
}
