import type { Socket } from 'node:net';
import fastify, { LogController } from 'fastify';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { TunnelError } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import type { Config } from '../config/config.ts';
import { refuse } from '../entry/refusal.ts';
import { certificateOf } from './certificate.ts';
import { newRequestId } from './upgrade-dispatcher.ts';

const maxHeaderBytes = 16 * 1024;
const maxHeaders = 100;
/** How often Node.js looks for connections that are too slow; its default of 30 s would make every limit 30 s late. */
const slowConnectionCheckMs = 2000;

/** A request that Node's parser could not read, or did not receive in time. */
export interface UnreadableRequest {
  readonly requestId: string;
  readonly code: TunnelErrorCode;
  /** The other end of the connection, which can be a proxy; what the request says about its client was not read. */
  readonly peer: string | undefined;
  /** The parser's own code. */
  readonly reason: string;
}

export interface PublicAppOptions {
  readonly onUnreadable: (request: UnreadableRequest) => void;
  /** Answers a request whose path the router cannot decode. */
  readonly onBadPath: (request: FastifyRequest, reply: FastifyReply, error: TunnelError) => unknown;
}

/** The server that people and web proxies reach, with its limits on everything that unauthenticated clients can do. */
export function publicApp(config: Config, log: Logger, options: PublicAppOptions): FastifyInstance {
  const { tls, limits } = config;
  const common = {
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: newRequestId,
    requestTimeout: limits.preAuthMs,
    // Longer than the time for the head, so that a slow caller gets its 408.
    connectionTimeout: limits.preAuthMs + 5000,
    clientErrorHandler: (error: NodeJS.ErrnoException, socket: Socket) =>
      refuseUnreadable(error, socket, options.onUnreadable),
    frameworkErrors: (error: Error, request: unknown, reply: unknown) =>
      void options.onBadPath(
        request as FastifyRequest,
        reply as FastifyReply,
        new TunnelError('REQUEST_INVALID', 'this is not a valid request target', { cause: error }),
      ),
    // A web proxy keeps connections for its next caller: longer than it does. A caller of ours has no reason to.
    keepAliveTimeout: config.trustedProxies.length > 0 ? 65_000 : 5000,
    bodyLimit: 64 * 1024,
    return503OnClosing: false,
    routerOptions: { maxParamLength: 300 },
  };
  const http = {
    maxHeaderSize: maxHeaderBytes,
    connectionsCheckingInterval: slowConnectionCheckMs,
    // Node.js itself would answer with a 400 that has no request id: `guardPaths` does it instead.
    requireHostHeader: false,
  };
  const app = tls
    ? fastify({
        ...common,
        https: {
          ...http,
          ...certificateOf(tls),
          ALPNProtocols: ['http/1.1'],
          // As for plain HTTP; without it a client's EOF would cut off what the target still sends.
          allowHalfOpen: true,
          handshakeTimeout: limits.preAuthMs,
        },
      })
    : fastify({ ...common, http });
  app.server.headersTimeout = limits.preAuthMs;
  app.server.maxHeadersCount = maxHeaders;
  return app as unknown as FastifyInstance;
}

/** The codes for requests that Node's parser could not read, or did not receive in time. */
const parserCodes: Readonly<Record<string, TunnelErrorCode>> = {
  HPE_HEADER_OVERFLOW: 'HEADERS_TOO_LARGE',
  ERR_HTTP_REQUEST_TIMEOUT: 'REQUEST_TIMEOUT',
};

function refuseUnreadable(
  error: NodeJS.ErrnoException,
  socket: Socket,
  onUnreadable: PublicAppOptions['onUnreadable'],
): void {
  socket.on('error', () => {});
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const code = parserCodes[error.code ?? ''] ?? 'REQUEST_INVALID';
  const requestId = newRequestId();
  onUnreadable({ requestId, code, peer: socket.remoteAddress, reason: error.code ?? 'unknown' });
  refuse(socket, new TunnelError(code, 'this is not a valid HTTP request'), requestId, {
    speaksAs: 'origin',
  });
}
