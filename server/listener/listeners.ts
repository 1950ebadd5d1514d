import type { FastifyInstance } from 'fastify';
import type { Config } from '../config/config.ts';
import { listenForTakeover, removeSocketFile } from './listen.ts';
import type { ListenMode, ListenSpec, SharingOptions } from './listen.ts';
import type { PublicListener } from './public-listener.ts';

export interface ListenersParts {
  readonly config: Pick<Config, 'admin' | 'control'>;
  readonly public: PublicListener;
  /** The path of the socket that is this process's alone. */
  readonly instanceSocket: string;
  readonly apps: {
    readonly admin: FastifyInstance;
    readonly control: FastifyInstance;
    readonly instance: FastifyInstance;
  };
}

/** All that a process of the gateway listens on, and what the next one takes over from it. */
export class Listeners {
  readonly #parts: ListenersParts;
  readonly #stopped = Promise.withResolvers<void>();
  #areOpen = false;
  /** The addresses at which this process alone listens; the socket of its own is the first. */
  readonly #owned: ListenSpec[] = [];

  constructor(parts: ListenersParts) {
    this.#parts = parts;
  }

  /** Whether this process listens, and no other one does in its place. */
  get areOpen(): boolean {
    return this.#areOpen;
  }

  /** Resolves when another process listens in place of this one. */
  get stoppedAccepting(): Promise<void> {
    return this.#stopped.promise;
  }

  /** Listens on all addresses but the control socket. Rejects with a message for people. */
  async open(mode: ListenMode): Promise<void> {
    const { config, apps, instanceSocket } = this.#parts;
    await this.#listen(
      apps.instance,
      { kind: 'unix', path: instanceSocket },
      { access: 'owner', mode: 'takeover' },
    );
    await this.#listen(apps.admin, config.admin, { access: 'owner', mode });
    await this.#parts.public.open(mode);
  }

  /** The last step, when the process before has stopped: from here on this one answers for the gateway. */
  async openControl(mode: ListenMode): Promise<void> {
    const { config, apps } = this.#parts;
    await this.#listen(apps.control, config.control, { access: 'owner', mode });
    this.#areOpen = true;
  }

  /** Stops listening where another process does now. Connections that are open are served to the end. */
  async stopAccepting(): Promise<void> {
    this.#areOpen = false;
    this.#owned.length = 1;
    await Promise.all([this.#parts.public.stopAccepting(), this.#parts.apps.admin.close()]);
    this.#stopped.resolve();
  }

  /** Closes all that is open, the gateway with it, when the last tunnel is over. */
  async close(): Promise<void> {
    const { apps } = this.#parts;
    await this.#parts.public.end();
    await Promise.all([apps.admin.close(), apps.control.close(), apps.instance.close()]);
    for (const spec of this.#owned) await removeSocketFile(spec);
  }

  async #listen(app: FastifyInstance, spec: ListenSpec, options: SharingOptions): Promise<void> {
    await app.ready();
    await listenForTakeover(app.server, spec, options);
    this.#owned.push(spec);
  }
}
