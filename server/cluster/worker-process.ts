import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { predecessorVariable, socketNames } from '../listener/passed-sockets.ts';
import type { PassedSocket } from '../listener/passed-sockets.ts';
import { workerNotice } from './peer-messages.ts';
import type { WorkerRequest } from './peer-messages.ts';
import type { Watched } from './heartbeat/heartbeat.ts';
import { formatWorkerContext, workerVariable } from './worker-context.ts';
import type { WorkerContext } from './worker-context.ts';

/** A worker that does not listen by then does not start: so many times as long as this process took, within limits. */
const startFactor = 20;
const minStartMs = 20_000;
const maxStartMs = 300_000;
/** One that has been silent for longer is given nothing, and is not ready. */
const responsiveMs = 3000;

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
  /** How long this process took until it could start a worker: a measure of the machine, in milliseconds. */
  readonly ownStartMs: number;
  /** Called when the worker reports that it has failed and ends with its tunnels. */
  readonly onFailing: () => void;
  /** Called once when the process has ended, or could not be started. */
  readonly onEnd: (why: object) => void;
}

/** A child of this process that carries tunnels: the same program, started again. */
export class WorkerProcess implements Watched {
  readonly number: number;
  readonly column: number;
  readonly startedAt = performance.now();
  readonly #child: ChildProcess;
  readonly #listening = Promise.withResolvers<void>();
  #instance: string | undefined;
  #answers = false;
  #awaitsPong = false;
  #silentMs = 0;
  #notReadyReasons: readonly string[] = [];

  /** Throws what `spawn` throws. */
  constructor(options: WorkerProcessOptions) {
    const { context } = options;
    this.number = context.number;
    this.column = context.column;
    this.#child = spawnWorker(options);
    options.onSpawned(this.#child);
    const startMs = Math.min(Math.max(minStartMs, startFactor * options.ownStartMs), maxStartMs);
    const timeout = setTimeout(() => this.kill(), startMs);
    this.#child.on('message', (message) => {
      const { data } = workerNotice.safeParse(message);
      if (data === undefined) return;
      if ('failing' in data) return options.onFailing();
      if ('pong' in data) return this.#onPong(data.pong);
      clearTimeout(timeout);
      this.#instance = data.listening;
      this.#answers = data.answers ?? false;
      this.#ping();
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

  /** Whether it answers pings; one of an older version does not. */
  get answers(): boolean {
    return this.#answers;
  }

  get silentMs(): number {
    return this.#silentMs;
  }

  /** Whether it has answered lately, so that it can be given work. */
  get isResponsive(): boolean {
    return this.#answers && this.#silentMs < responsiveMs;
  }

  /** Why no new tunnel would open at it, as it has said last. */
  get notReadyReasons(): readonly string[] {
    return this.#notReadyReasons;
  }

  tick(elapsedMs: number): void {
    if (this.#awaitsPong) this.#silentMs += elapsedMs;
    else this.#ping();
  }

  /** Passes a connection on to it, from which nothing has been read. Takes it over. */
  take(connection: Socket): void {
    const request: WorkerRequest = { connection: true };
    this.#child.send(request, connection, { keepOpen: false }, (error) => error && connection.destroy());
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #ping(): void {
    if (!this.#answers || !this.#child.connected) return;
    this.#awaitsPong = true;
    const request: WorkerRequest = { ping: true };
    this.#child.send(request, () => {});
  }

  #onPong(notReadyReasons: readonly string[]): void {
    this.#awaitsPong = false;
    this.#silentMs = 0;
    this.#notReadyReasons = notReadyReasons;
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
