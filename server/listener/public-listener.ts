import type { FastifyInstance } from 'fastify';
import { removeSocketFile, listenForTakeover } from './listen.ts';
import type { ListenSpec, SharingOptions } from './listen.ts';
import { descriptorOf } from '../cluster/spawn-successor.ts';

/** Requests that are being answered when everything else is done have this long. */
const lastRequestsMs = 2000;

/** Where tunnels come in, as the process has it that answers for the gateway. */
export interface PublicListener {
  /** The listening socket, where it can be passed on to another process. */
  readonly fd: number | undefined;
  open(turn: SharingOptions['mode']): Promise<void>;
  /** Takes no new connections, because another process does. */
  stopAccepting(): Promise<void>;
  /** Takes no new connections, and nobody may come after. */
  close(): void;
  /** When the last tunnel is over: answers the last requests, and closes the gateway. */
  end(): Promise<void>;
}

/** The door of a process that takes the tunnels itself. */
export class OwnListener implements PublicListener {
  readonly #app: FastifyInstance;
  readonly #spec: ListenSpec;
  #isHeld = false;

  constructor(app: FastifyInstance, door: ListenSpec) {
    this.#app = app;
    this.#spec = door;
  }

  get fd(): number | undefined {
    return descriptorOf(this.#app.server);
  }

  async open(turn: SharingOptions['mode']): Promise<void> {
    await listenForTakeover(this.#app, this.#spec, { access: 'everyone', mode: turn });
    this.#isHeld = true;
  }

  async stopAccepting(): Promise<void> {
    this.#isHeld = false;
    this.close();
  }

  close(): void {
    const { server } = this.#app;
    server.close();
    // A connection that is open for the next request is closed instead.
    server.keepAliveTimeout = 1;
  }

  async end(): Promise<void> {
    const { server } = this.#app;
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, lastRequestsMs);
    await Promise.race([late.promise, new Promise((resolve) => server.close(resolve))]);
    clearTimeout(timer);
    server.closeAllConnections();
    await this.#app.close();
    if (this.#isHeld) await removeSocketFile(this.#spec);
  }
}
