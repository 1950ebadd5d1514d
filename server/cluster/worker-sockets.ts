import type { Socket } from 'node:net';
import { bindSocket, bindSockets } from '../listener/bound-socket.ts';
import type { BoundSocket } from '../listener/bound-socket.ts';
import { removeSocketFile } from '../listener/listen.ts';
import type { ListenMode } from '../listener/listen.ts';
import type { NamedListenSpec, PassedSocket } from '../listener/passed-sockets.ts';

/** The sockets of one listener: one for all workers, or one for each. */
interface SocketGroup extends NamedListenSpec {
  shared: BoundSocket | undefined;
  /** By the number of the worker. */
  readonly perWorker: Map<number, BoundSocket>;
}

/**
 * The public sockets of a gateway of several workers. The supervisor binds and holds them, and its workers accept from
 * them. Where the kernel divides callers among sockets of one port, each worker has a socket of its own: a caller that
 * waits in it when its worker dies is accepted by the next one.
 */
export class WorkerSockets {
  readonly #groups: readonly SocketGroup[];

  constructor(listeners: readonly NamedListenSpec[]) {
    this.#groups = listeners.map((listener) => ({ ...listener, shared: undefined, perWorker: new Map() }));
  }

  /** Those that can be passed on to another supervisor; beside a shared port, that one binds its own. */
  get shared(): readonly PassedSocket[] {
    return this.#groups.flatMap(({ name, shared }) =>
      shared === undefined ? [] : [{ name, fd: shared.fd }],
    );
  }

  /** Binds all of them, for workers from 1 to `count`, or none. Rejects with a message for people. */
  async bind(mode: ListenMode, count: number): Promise<void> {
    try {
      for (const group of this.#groups) {
        const sockets = await bindSockets(group.spec, mode, count);
        if (sockets.length < count || !sockets[0]!.sharesPort) [group.shared] = sockets;
        else for (const [at, socket] of sockets.entries()) group.perWorker.set(at + 1, socket);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The sockets of one worker, in the order of the listeners. Those that it had no more are bound again; throws as `bind` does. */
  forWorker(number: number): readonly PassedSocket[] {
    return this.#groups.map(({ name, spec, shared, perWorker }) => {
      const socket = shared ?? perWorker.get(number) ?? bindSocket(spec);
      if (shared === undefined) perWorker.set(number, socket);
      return { name, fd: socket.fd };
    });
  }

  /** Closes what is one worker's alone, so that the others accept the callers that come. */
  release(number: number): void {
    for (const { perWorker } of this.#groups) {
      perWorker.get(number)?.close();
      perWorker.delete(number);
    }
  }

  /**
   * Accepts the callers of a worker that does not, so that they reach another one. The sockets are no longer the worker's
   * here: one that replaces it gets new ones. Returns the function that stops it.
   */
  acceptFor(number: number, onConnection: (connection: Socket) => void): () => void {
    const stops = this.#groups.flatMap(({ perWorker }) => perWorker.get(number)?.accept(onConnection) ?? []);
    for (const { perWorker } of this.#groups) perWorker.delete(number);
    return () => {
      for (const stop of stops) stop();
    };
  }

  /** Gives unix sockets their names, when the workers listen on them. */
  async publish(): Promise<void> {
    for (const { shared } of this.#groups) await shared?.publish();
  }

  /** The sockets last as long as workers have them. */
  close(): void {
    for (const group of this.#groups) {
      group.shared?.close();
      for (const socket of group.perWorker.values()) socket.close();
      group.perWorker.clear();
    }
  }

  /** Removes the files of unix sockets. */
  async removeFiles(): Promise<void> {
    for (const { spec } of this.#groups) await removeSocketFile(spec);
  }
}
