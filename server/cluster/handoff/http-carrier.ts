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
import { unreachable } from './sender.ts';

/** What the owner of a carrier has to see of a request: it is signed, so that nothing else is to be believed. */
const passedFields = ['postern-carrier', 'content-type', 'content-length', 'transfer-encoding'] as const;
/**
 * The owner does not close a connection as soon as it has answered: it may have the whole body before our last, empty,
 * write, and the error of that would overtake its answer.
 */
const agent = new Agent({ keepAlive: true });
/** What is about one connection only. */
const ownFields = new Set(['connection', 'keep-alive', 'transfer-encoding', 'date']);

/**
 * Has the process behind `socketPath` answer a request of one of its carriers. Answers in any case: with what that
 * process says, or that the carrier is gone with it.
 */
export function passCarried(
  socketPath: string,
  request: IncomingMessage,
  { direction: way, exchange: { response, id } }: Carried,
): void {
  const asking = httpRequest({
    socketPath,
    agent,
    method: request.method ?? 'GET',
    path: `/http/${way}`,
    headers: { host: 'localhost', ...fieldsOf(request.headers, (name) => isPassed(name)) },
  });
  // Silence is nothing strange here.
  response.socket?.setTimeout(0);
  response.socket?.setNoDelay(true);
  response.on('error', () => {});
  response.once('close', () => asking.destroy());
  asking.once('response', (answer) => {
    response.writeHead(
      answer.statusCode ?? 502,
      fieldsOf(answer.headers, (name) => !ownFields.has(name)),
    );
    response.flushHeaders();
    pipeline(answer, response, () => {});
  });
  asking.on('error', (error: NodeJS.ErrnoException) => {
    // An answer that has begun is cut off by this.
    const isGone = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
    refuseRequest(response, isGone ? tunnelNotFound() : unreachable(error), id);
  });
  pipeline(request, asking, () => {});
}

/** Takes the requests for carriers of this process that have reached another one. */
export function takeCarried(app: FastifyInstance, relays: ResumableTunnels, carriers: HttpCarriers): void {
  const entry = httpEntry('/', { tunnels: () => relays, carriers });
  void app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null));
    for (const [way, method] of Object.entries(carrierRequestMethods)) {
      scope.route({
        method,
        url: `/http/${way}`,
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

function fieldsOf(headers: IncomingHttpHeaders, isMeant: (name: string) => boolean): OutgoingHttpHeaders {
  return Object.fromEntries(
    Object.entries(headers).filter(([name, value]) => value !== undefined && isMeant(name)),
  );
}
