import type { Logger } from 'pino';
import type { WorkerProcess } from '../worker-process.ts';
import type { WorkerSockets } from '../worker-sockets.ts';
import { Diversion, Heartbeat } from './heartbeat.ts';

/** A worker that replaces one that was ended listens by then, or another silent one is ended all the same. */
const replacementMs = 30_000;

export interface WorkerWatchOptions {
  /** All workers that run. */
  readonly workers: () => Iterable<WorkerProcess>;
  /** Those that accept tunnels. */
  readonly accepting: () => readonly WorkerProcess[];
  readonly sockets: Pick<WorkerSockets, 'acceptFor'>;
  /** Whether a worker can be ended now: see `HeartbeatOptions`. */
  readonly canEnd: () => boolean;
  /** Called when a worker was ended, which can take its time to be gone. */
  readonly onEnded: (worker: WorkerProcess) => void;
  readonly log: Logger;
}

/** What a supervisor does about workers that do not answer: others serve their callers, and at last they are replaced. */
export class WorkerWatch {
  readonly #options: WorkerWatchOptions;
  readonly #heartbeat: Heartbeat<WorkerProcess>;
  /** When a worker was ended last. */
  #endedAt = -Infinity;
  /** Stops what accepts in place of a silent worker. */
  readonly #diversions = new Map<WorkerProcess, () => void>();

  constructor(options: WorkerWatchOptions) {
    this.#options = options;
    this.#heartbeat = new Heartbeat({
      watched: () =>
        [...options.workers()].filter(({ instance, answers }) => answers && instance !== undefined),
      onSilent: (worker) => this.#onSilent(worker),
      onAnswered: (worker) => this.#onAnswered(worker),
      onHung: (worker) => this.#onHung(worker),
      // A replacement that does not come must not keep the next one for ever.
      canEnd: () => options.canEnd() || performance.now() - this.#endedAt > replacementMs,
    });
  }

  /** The number of workers that have not answered for some time. */
  get silentCount(): number {
    return this.#heartbeat.silentCount;
  }

  /** Another process accepts the callers from now on. A silent worker cannot stop accepting, so it is ended. */
  stopAccepting(): void {
    for (const worker of this.#diversions.keys()) {
      worker.kill();
      this.forget(worker);
    }
  }

  /** For a worker that has ended. */
  forget(worker: WorkerProcess): void {
    this.#diversions.get(worker)?.();
    this.#diversions.delete(worker);
  }

  stop(): void {
    this.#heartbeat.stop();
  }

  /** Its callers, those too that wait in its socket already, go to the workers that answer. */
  #onSilent(worker: WorkerProcess): void {
    const { log, accepting, sockets } = this.#options;
    const { number, pid, silentMs } = worker;
    log.error({ worker: number, pid, silentMs }, 'a worker does not answer');
    if (!accepting().includes(worker)) return;
    const diversion = new Diversion(() => accepting().filter(({ isResponsive }) => isResponsive));
    const stop = sockets.acceptFor(number, (connection) => diversion.divert(connection));
    this.#diversions.set(worker, stop);
  }

  #onAnswered(worker: WorkerProcess): void {
    this.forget(worker);
    this.#options.log.warn({ worker: worker.number, pid: worker.pid }, 'a worker answers again');
  }

  #onHung(worker: WorkerProcess): void {
    const { number, pid, silentMs } = worker;
    this.#options.log.error({ worker: number, pid, silentMs }, 'ending a worker that does not answer');
    this.#endedAt = performance.now();
    worker.kill();
    // A process that waits for a disk in the kernel ends late: its slot is free at once.
    this.#options.onEnded(worker);
  }
}
