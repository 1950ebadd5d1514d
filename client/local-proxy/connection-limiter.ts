import type { Socket } from 'node:net';
import { abort } from '../../stream/close.ts';
import { ClientError } from '../errors/failure.ts';
import type { LocalListenAddress } from './listen-address.ts';
import { serveConnection } from './serve-connection.ts';
import type { ListenerContext } from './serve-connection.ts';

/** Limits the number of connections and waits for them to close. */
export class ConnectionLimiter {
  readonly #limit: number;
  readonly #context: ListenerContext;
  readonly #served = new Set<Promise<void>>();

  constructor(limit: number, context: ListenerContext) {
    this.#limit = limit;
    this.#context = context;
  }

  /** Serves `socket`, or aborts it when the limit is reached. Takes ownership of the socket. */
  serve(socket: Socket, address: LocalListenAddress): void {
    if (this.#context.signal.aborted) return abort(socket);
    if (this.#served.size >= this.#limit) {
      abort(socket);
      return this.#context.onFailure(
        new ClientError(
          'LISTENER_FULL',
          `${this.#limit} connections are open, the maximum of --most-connections`,
        ),
      );
    }
    const served = serveConnection(socket, address, this.#context);
    this.#served.add(served);
    void served.then(() => this.#served.delete(served));
  }

  /** Resolves when all connections have closed. */
  async allClosed(): Promise<void> {
    await Promise.all(this.#served);
  }
}
