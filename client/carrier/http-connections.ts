import { Agent, request as httpRequest } from 'node:http';
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Egress } from '../egress/egress.ts';
import { answerMs, withResponseTimeout, noAnswer } from '../http/exchange.ts';
import { ClientError } from '../errors/failure.ts';
import { version } from '../os/version.ts';
import { gatewayTarget } from '../http/gateway-url.ts';

/** One for what the gateway sends, one for what we send: a corporate proxy counts connections. */
const maxLines = 2;

/** From the first packet to the end of the handshakes. */
const connectMs = 15_000;

export interface LineQuestion {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: OutgoingHttpHeaders;
  readonly body?: Buffer;
}

interface Waiting {
  readonly signal: AbortSignal;
  readonly answerMs?: number;
  readonly onConnected?: () => void;
}

/** The connections of one carrier to the gateway, which stay open between requests. */
export class ConnectionPool {
  readonly #gateway: URL;
  readonly #agent: LineAgent;
  readonly #over = new AbortController();

  constructor(gateway: URL, egress: Egress) {
    this.#gateway = gateway;
    this.#agent = new LineAgent(
      (signal) => egress.connect(gatewayTarget(gateway), signal),
      this.#over.signal,
    );
  }

  /**
   * Asks, and gives the head of the answer. A request that found its connection closed is sent once more: its number
   * is good once. Throws as `exchange` does, and what the egress throws.
   */
  async ask(question: LineQuestion, waiting: Waiting): Promise<IncomingMessage> {
    try {
      return await this.#ask(question, waiting);
    } catch (error) {
      if (error !== closedBefore) throw error;
      return this.#ask(question, waiting);
    }
  }

  /** Closes what is open. */
  close(): void {
    this.#over.abort();
    this.#agent.destroy();
  }

  #ask({ method, path, headers, body }: LineQuestion, waiting: Waiting): Promise<IncomingMessage> {
    const { host, hostname, port } = this.#gateway;
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        agent: this.#agent,
        // The agent counts connections by these; where they go is the egress's business.
        host: hostname,
        port,
        method,
        path,
        headers: {
          Host: host,
          'User-Agent': `postern/${version}`,
          'Cache-Control': 'no-store',
          'Accept-Encoding': 'identity',
          ...(body && { 'Content-Length': body.length }),
          ...headers,
        },
      });
      const stopWaiting = withResponseTimeout(
        { peer: host, answerMs: waiting.answerMs ?? answerMs },
        waiting.signal,
        (failure) => request.destroy(failure),
      );
      request.once('socket', () => waiting.onConnected?.());
      request.once('response', (response) => {
        stopWaiting();
        resolve(response);
      });
      request.on('error', (error: NodeJS.ErrnoException) => {
        stopWaiting();
        const isStale = request.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
        reject(isStale ? closedBefore : noAnswer(error, host));
      });
      // A 101, which nobody has asked for, closes it without an error.
      request.once('close', () => {
        stopWaiting();
        reject(new ClientError('HTTP_UNEXPECTED', `${host} answered with what is no answer to the request`));
      });
      request.end(body);
    });
  }
}

/** A connection that was kept had been closed in the meantime. */
const closedBefore = new Error('the connection was closed before the request');

class LineAgent extends Agent {
  readonly #connect: (signal: AbortSignal) => Promise<Socket>;
  readonly #over: AbortSignal;

  constructor(connect: (signal: AbortSignal) => Promise<Socket>, over: AbortSignal) {
    super({ keepAlive: true, maxSockets: maxLines, maxFreeSockets: maxLines });
    this.#connect = connect;
    this.#over = over;
  }

  override createConnection(
    _options: object,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    void this.#open().then(
      // In the next turn: what the agent throws is no failure of the connection.
      (socket) => setImmediate(() => callback?.(null, socket)),
      // Node looks at nothing but the error.
      (error: Error) => setImmediate(() => callback?.(error, undefined as unknown as Duplex)),
    );
  }

  async #open(): Promise<Socket> {
    const limit = new AbortController();
    const stop = (): void => limit.abort();
    const timer = setTimeout(stop, connectMs);
    this.#over.addEventListener('abort', stop, { once: true });
    try {
      const socket = await this.#connect(limit.signal);
      if (this.#over.aborted) socket.destroy();
      return socket;
    } finally {
      clearTimeout(timer);
      this.#over.removeEventListener('abort', stop);
    }
  }
}
