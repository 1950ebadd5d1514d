import { Agent, request as httpRequest } from 'node:http';
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { onAbort } from '../../base/deadline.ts';
import type { Egress } from '../egress/egress.ts';
import { answerMs, withResponseTimeout, noAnswer } from '../http/exchange.ts';
import { ClientError } from '../errors/failure.ts';
import { userAgent } from '../os/version.ts';
import { gatewayTarget } from '../http/gateway-url.ts';

/** One connection for each direction: corporate proxies count connections. */
const maxConnections = 2;

/** From the first packet to the end of the handshakes. */
const connectMs = 15_000;

/** One request of a carrier. */
export interface PooledRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: OutgoingHttpHeaders;
  readonly body?: Buffer;
}

interface RequestOptions {
  readonly signal: AbortSignal;
  readonly answerMs?: number;
  readonly onConnected?: () => void;
}

/** The keep-alive connections of one carrier to the gateway. */
export class ConnectionPool {
  readonly #gateway: URL;
  readonly #agent: EgressAgent;
  readonly #over = new AbortController();

  constructor(gateway: URL, egress: Egress) {
    this.#gateway = gateway;
    this.#agent = new EgressAgent(
      (signal) => egress.connect(gatewayTarget(gateway), signal),
      this.#over.signal,
    );
  }

  /**
   * Sends a request and resolves to the response once its head is here. A request that found its connection closed is
   * sent once more: the gateway accepts its number once. Throws as `sendRequest` does, and what the egress throws.
   */
  async request(request: PooledRequest, options: RequestOptions): Promise<IncomingMessage> {
    try {
      return await this.#send(request, options);
    } catch (error) {
      if (error !== closedBefore) throw error;
      return this.#send(request, options);
    }
  }

  /** Closes all connections. */
  close(): void {
    this.#over.abort();
    this.#agent.destroy();
  }

  #send({ method, path, headers, body }: PooledRequest, options: RequestOptions): Promise<IncomingMessage> {
    const { host, hostname, port } = this.#gateway;
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        agent: this.#agent,
        // The agent groups connections by these; the egress decides where they lead.
        host: hostname,
        port,
        method,
        path,
        headers: {
          Host: host,
          'User-Agent': userAgent,
          'Cache-Control': 'no-store',
          'Accept-Encoding': 'identity',
          ...(body && { 'Content-Length': body.length }),
          ...headers,
        },
      });
      const stopWaiting = withResponseTimeout(
        { peer: host, answerMs: options.answerMs ?? answerMs },
        options.signal,
        (failure) => request.destroy(failure),
      );
      request.once('socket', () => options.onConnected?.());
      request.once('response', (response) => {
        stopWaiting();
        resolve(response);
      });
      request.on('error', (error: NodeJS.ErrnoException) => {
        stopWaiting();
        const isStale = request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
        reject(isStale ? closedBefore : noAnswer(error, host));
      });
      // An unrequested 101 closes it without an error.
      request.once('close', () => {
        stopWaiting();
        reject(new ClientError('HTTP_UNEXPECTED', `${host} sent a response that does not match the request`));
      });
      request.end(body);
    });
  }
}

/** The error of a request whose kept connection had been closed in the meantime. */
const closedBefore = new Error('the connection was closed before the request');

/** An agent whose connections come from the egress. */
class EgressAgent extends Agent {
  readonly #connect: (signal: AbortSignal) => Promise<Socket>;
  readonly #over: AbortSignal;

  constructor(connect: (signal: AbortSignal) => Promise<Socket>, over: AbortSignal) {
    super({ keepAlive: true, maxSockets: maxConnections, maxFreeSockets: maxConnections });
    this.#connect = connect;
    this.#over = over;
  }

  override createConnection(
    _options: object,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    void this.#open().then(
      // In the next turn: an exception of the agent is no failure of the connection.
      (socket) => setImmediate(() => callback?.(null, socket)),
      // Node.js ignores the second argument then.
      (error: Error) => setImmediate(() => callback?.(error, undefined as unknown as Duplex)),
    );
  }

  async #open(): Promise<Socket> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), connectMs);
    const removeListener = onAbort(this.#over, () => limit.abort());
    try {
      const socket = await this.#connect(limit.signal);
      if (this.#over.aborted) socket.destroy();
      return socket;
    } finally {
      clearTimeout(timer);
      removeListener();
    }
  }
}
