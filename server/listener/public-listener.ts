import { createServer, Server } from 'node:net';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { withDeadline } from '../../base/deadline.ts';
import { descriptorOf } from './bound-socket.ts';
import { listenForTakeover, removeSocketFile } from './listen.ts';
import type { ListenMode } from './listen.ts';
import type { NamedListenSpec, PassedSocket } from './passed-sockets.ts';

/** Requests that are being answered when everything else is done have this long. */
const lastRequestsMs = 2000;

/** The public listeners of the process that answers for the gateway: tunnels come in there. */
export interface PublicListener {
  /** The listening sockets that can be passed on to another process. */
  readonly sockets: readonly PassedSocket[];
  open(mode: ListenMode): Promise<void>;
  /** Accepts no new connections, because another process does. */
  stopAccepting(): Promise<void>;
  /** Accepts no new connections, whether or not another process does. */
  close(): void;
  /** When the last tunnel is over: answers the last requests, and closes the gateway. */
  end(): Promise<void>;
}

/** The listeners of a process that carries the tunnels itself. */
export class OwnListener implements PublicListener {
  readonly #app: FastifyInstance;
  readonly #listeners: readonly NamedListenSpec[];
  /** One for each listener, in the same order. */
  readonly #servers: readonly Server[];
  /** Whether the files of unix sockets are this process's to remove. */
  #ownsFiles = false;
  #hasSuccessor = false;

  /** `app` serves what comes in at any of them; at least one is needed. */
  constructor(app: FastifyInstance, listeners: readonly NamedListenSpec[]) {
    this.#app = app;
    this.#listeners = listeners;
    this.#servers = listeners.map((_, at) => (at === 0 ? app.server : serverInFrontOf(app.server)));
  }

  get sockets(): readonly PassedSocket[] {
    return this.#listeners.flatMap(({ name }, at) => {
      const fd = descriptorOf(this.#servers[at]!);
      return fd === undefined ? [] : [{ name, fd }];
    });
  }

  async open(mode: ListenMode): Promise<void> {
    await this.#app.ready();
    for (const [at, { spec }] of this.#listeners.entries())
      await listenForTakeover(this.#servers[at]!, spec, { access: 'everyone', mode });
    this.#ownsFiles = true;
  }

  async stopAccepting(): Promise<void> {
    this.#ownsFiles = false;
    this.#hasSuccessor = true;
    for (const server of this.#servers) closeListener(server);
    // The next answer on each connection is its last one, and says so.
    this.#app.server.maxRequestsPerSocket = 1;
  }

  /** Serves a connection that another process has accepted, as if it had come in here. Takes it over. */
  serve(connection: Socket): void {
    connection.allowHalfOpen = true;
    connection.setNoDelay(true);
    this.#app.server.emit('connection', connection);
  }

  close(): void {
    for (const server of this.#servers) server.close();
    // A connection that is open for the next request is closed instead.
    this.#app.server.keepAliveTimeout = 1;
  }

  async end(): Promise<void> {
    const close = this.#hasSuccessor ? closeListener : closeIdle;
    const closed = (): Promise<unknown> =>
      Promise.all(this.#servers.map((server) => new Promise<void>((resolve) => close(server, resolve))));
    await withDeadline(undefined, lastRequestsMs, closed).catch(() => {});
    this.#app.server.closeAllConnections();
    await this.#app.close();
    if (this.#ownsFiles) for (const { spec } of this.#listeners) await removeSocketFile(spec);
  }
}

/** A server that accepts connections for an HTTP server, as that does for itself. */
function serverInFrontOf(http: Server): Server {
  return createServer(
    { allowHalfOpen: true, noDelay: true },
    (socket) => void http.emit('connection', socket),
  );
}

/**
 * Accepts no more; calls `then` when all connections have closed. Unlike `close` of an HTTP server, it leaves connections
 * alone that wait for another request: that can be on its way, or the end of an answer still is, and either would be reset.
 */
function closeListener(server: Server, then: () => void = () => {}): void {
  Server.prototype.close.call(server, then);
}

function closeIdle(server: Server, then: () => void): void {
  server.close(then);
}
