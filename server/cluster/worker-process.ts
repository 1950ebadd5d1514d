import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { predecessorVariable, socketNames } from '../listener/passed-sockets.ts';
import type { PassedSocket } from '../listener/passed-sockets.ts';
import { workerNotice } from './peer-messages.ts';
import { formatWorkerContext, workerVariable } from './worker-context.ts';
import type { WorkerContext } from './worker-context.ts';

/** A worker that does not listen by then does not start. */
const startMs = 20_000;

export interface WorkerProcessOptions {
  readonly context: WorkerContext;
  /** Its public listeners. */
  readonly sockets: readonly PassedSocket[];
  /** The file of the shared counts. */
  readonly countsFd: number;
  /** The text of the config file that is in force. */
  readonly configText: string;
  readonly env: NodeJS.ProcessEnv;
  /** Called with the child as soon as there is one. */
  readonly onSpawned: (child: ChildProcess) => void;
  /** Called when the worker reports that it has failed and ends with its tunnels. */
  readonly onFailing: () => void;
  /** Called once when the process has ended, or could not be started. */
  readonly onEnd: (why: object) => void;
}

/** A child of this process that carries tunnels: the same program, started again. */
export class WorkerProcess {
  readonly column: number;
  readonly startedAt = performance.now();
  readonly #child: ChildProcess;
  readonly #listening = Promise.withResolvers<void>();
  #instance: string | undefined;

  /** Throws what `spawn` throws. */
  constructor(options: WorkerProcessOptions) {
    const { context } = options;
    this.column = context.column;
    this.#child = spawnWorker(options);
    options.onSpawned(this.#child);
    const timeout = setTimeout(() => this.kill(), startMs);
    this.#child.on('message', (message) => {
      const { data } = workerNotice.safeParse(message);
      if (data === undefined) return;
      if ('failing' in data) return options.onFailing();
      clearTimeout(timeout);
      this.#instance = data.listening;
      this.#listening.resolve();
    });
    const onEnd = (why: object): void => {
      clearTimeout(timeout);
      this.#listening.reject(new Error(`worker ${context.number} does not start`));
      options.onEnd(why);
    };
    // Nothing reads it when the process ends later.
    this.#listening.promise.catch(() => {});
    // There is no process then.
    this.#child.once('error', (err) => this.pid === undefined && onEnd({ err }));
    this.#child.once('exit', (code, signal) => onEnd({ code, signal }));
    this.#child.send({ configText: options.configText }, () => {});
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Its name among the processes of the gateway; undefined until it listens. */
  get instance(): string | undefined {
    return this.#instance;
  }

  /** Resolves when the worker listens; rejects when it ends before. */
  get listening(): Promise<void> {
    return this.#listening.promise;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** The descriptors are as `workerDescriptors` reads them. */
function spawnWorker({ context, sockets, countsFd, env }: WorkerProcessOptions): ChildProcess {
  return spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ['ignore', 'inherit', 'inherit', ...sockets.map(({ fd }) => fd), countsFd, 'ipc'],
    env: {
      ...env,
      [predecessorVariable]: undefined,
      [workerVariable]: formatWorkerContext(context),
      ...socketNames(sockets),
    },
  });
}
