import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Config } from '../config/config.ts';
import { removeSocketFile, listenForTakeover } from './listen.ts';
import type { ListenSpec, SharingOptions } from './listen.ts';
import { FileLock } from '../store/file-lock.ts';
import type { RuntimeDirectory } from '../cluster/runtime-directory.ts';
import type { Peers } from '../cluster/peers.ts';
import type { PublicListener } from './public-listener.ts';
import { isServed, takeOver } from '../cluster/takeover.ts';

/** Of several processes that start at once, one takes over after the other. */
const turnMs = 30_000;

export interface ListenersParts {
  readonly config: Pick<Config, 'admin' | 'control' | 'publicUrl'>;
  readonly public: PublicListener;
  readonly instance: string;
  readonly folder: RuntimeDirectory;
  readonly apps: {
    readonly admin: FastifyInstance;
    readonly control: FastifyInstance;
    readonly instance: FastifyInstance;
  };
}

/** Where a process of the gateway listens, and how the next one gets to listen there. */
export class Listeners {
  readonly #parts: ListenersParts;
  readonly #yielded = Promise.withResolvers<void>();
  #areOurs = false;
  /** Where nobody but we listen. */
  readonly #held: ListenSpec[] = [];

  constructor(parts: ListenersParts) {
    this.#parts = parts;
  }

  /** Whether we listen, and no other process does in our place. */
  get areOpen(): boolean {
    return this.#areOurs;
  }

  /** Resolves when another process listens in our place. */
  get stoppedAccepting(): Promise<void> {
    return this.#yielded.promise;
  }

  /**
   * Listens everywhere. If another process does so already, it goes on until this one listens too, and stops only then;
   * where that does not succeed, it goes on for good. Rejects with a message for people.
   */
  async open(neighbours: Peers): Promise<void> {
    const { config, apps, folder, instance } = this.#parts;
    const lock = new FileLock(join(folder.directory, 'takeover.lock'));
    try {
      const release = await lock.acquire(turnMs);
      const turn = (await isServed(config.control.path, config.publicUrl)) ? 'next' : 'first';
      const socket: ListenSpec = { kind: 'unix', path: folder.socketOf(instance)! };
      await this.#listen(apps.instance, socket, { access: 'owner', mode: 'next' });
      await this.#listen(apps.admin, config.admin, { access: 'owner', mode: turn });
      await this.#parts.public.open(turn);
      if (turn === 'next') await takeOver(config.control.path);
      await this.#listen(apps.control, config.control, { access: 'owner', mode: turn });
      this.#areOurs = true;
      await neighbours.broadcast('succeeded');
      release();
    } finally {
      lock.close();
    }
  }

  /** Stops listening where another process does now. Who is connected already is served to the end. */
  async stopAccepting(): Promise<void> {
    const { apps } = this.#parts;
    this.#areOurs = false;
    // The socket of its own is the first.
    this.#held.length = 1;
    await Promise.all([this.#parts.public.stopAccepting(), apps.admin.close()]);
    this.#yielded.resolve();
  }

  /** Closes all that is open, the gateway with it, when the last tunnel is over. */
  async close(): Promise<void> {
    const { apps } = this.#parts;
    await this.#parts.public.end();
    await Promise.all([apps.admin.close(), apps.control.close(), apps.instance.close()]);
    for (const door of this.#held) await removeSocketFile(door);
  }

  async #listen(app: FastifyInstance, door: ListenSpec, options: SharingOptions): Promise<void> {
    await listenForTakeover(app, door, options);
    this.#held.push(door);
  }
}
