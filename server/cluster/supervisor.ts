import type { Logger } from 'pino';
import type { ListenMode } from '../listener/listen.ts';
import type { NamedListenSpec, PassedSocket } from '../listener/passed-sockets.ts';
import type { PublicListener } from '../listener/public-listener.ts';
import type { AuditHub } from './audit/audit-hub.ts';
import { WorkerWatch } from './heartbeat/worker-watch.ts';
import type { SharedCounts } from './shared-counter.ts';
import { WorkerClient } from './worker-client.ts';
import type { LiveWorker } from './worker-client.ts';
import { WorkerProcess } from './worker-process.ts';
import { WorkerSockets } from './worker-sockets.ts';

/** A worker that has run for less time than this is likely to end again. */
const shortRunMs = 10_000;
const firstWaitMs = 1000;
const maxWaitMs = 30_000;
/** All tunnels have been ended, and the worker itself still runs. */
const lastMs = 10_000;

export interface SupervisorParts {
  /** The number of workers. */
  readonly count: number;
  readonly listeners: readonly NamedListenSpec[];
  /** The instance name of this process. */
  readonly generation: string;
  /** Has two columns for each worker: one that ends slowly keeps its own. */
  readonly counts: SharedCounts;
  readonly socketOf: (instance: string) => string;
  /** The text of the config file that is in force. */
  readonly configText: () => string;
  /** Called when a worker that has ended by itself is replaced. */
  readonly onReplaced: () => void;
  /** Writes the audit for all of them. */
  readonly auditHub: AuditHub;
  readonly log: Logger;
  readonly env: NodeJS.ProcessEnv;
}

/** The position of one worker, which one process after the other can have. */
interface WorkerSlot {
  readonly number: number;
  worker: WorkerProcess | undefined;
  /** The number of workers in a row that have ended after a short run. */
  failures: number;
  retry: NodeJS.Timeout | undefined;
}

/**
 * The processes that carry the tunnels of a gateway, started by this one. They are children of it; one that ends by
 * itself is replaced. This process holds their listening sockets too, and accepts nothing.
 */
export class Supervisor implements PublicListener {
  readonly #parts: SupervisorParts;
  readonly #slots: readonly WorkerSlot[];
  /** All that run, those too that accept no more and keep their tunnels. */
  readonly #workers = new Set<WorkerProcess>();
  readonly #client: WorkerClient;
  readonly #sockets: WorkerSockets;
  readonly #freeColumns: number[];
  readonly #watch: WorkerWatch;
  readonly #ownStartMs = performance.now();
  #isAccepting = false;
  #ownsFiles = false;
  #onEmpty: (() => void)[] = [];

  constructor(parts: SupervisorParts) {
    this.#parts = parts;
    this.#slots = Array.from({ length: parts.count }, (_, at) => ({
      number: at + 1,
      worker: undefined,
      failures: 0,
      retry: undefined,
    }));
    this.#sockets = new WorkerSockets(parts.listeners);
    this.#client = new WorkerClient({ socketOf: parts.socketOf, listening: () => this.#listening() });
    this.#freeColumns = Array.from({ length: parts.counts.columns }, (_, column) => column);
    this.#watch = new WorkerWatch({
      workers: () => this.#workers,
      accepting: () => (this.#isAccepting ? this.#slots.flatMap(({ worker }) => worker ?? []) : []),
      sockets: this.#sockets,
      // One that is being replaced has no worker that listens.
      canEnd: () => !this.#isAccepting || this.alive === this.#slots.length,
      onEnded: (worker) => {
        const slot = this.#slots.find((each) => each.worker === worker);
        if (slot) this.#vacate(slot, worker);
      },
      log: parts.log,
    });
  }

  get sockets(): readonly PassedSocket[] {
    return this.#sockets.shared;
  }

  /** The number of workers that listen. */
  get alive(): number {
    return this.#listening().length;
  }

  /** The number of workers that have not answered for some time. */
  get silent(): number {
    return this.#watch.silentCount;
  }

  /** The numbers of the workers that listen, by their instance names. */
  get numbers(): ReadonlyMap<string, number> {
    return new Map(this.#listening().map(({ number, instance }) => [instance, number]));
  }

  /** A worker in words for people; undefined for an instance name that none of them has. */
  describe(instance: string): string | undefined {
    const worker = [...this.#workers].find((each) => each.instance === instance);
    return worker && `worker ${worker.number} (pid ${worker.pid})`;
  }

  /** Resolves when all listen; otherwise none does. */
  async open(mode: ListenMode): Promise<void> {
    await this.#sockets.bind(mode, this.#slots.length);
    this.#isAccepting = true;
    try {
      await Promise.all(this.#slots.map((slot) => this.#start(slot)));
      await this.#sockets.publish();
      this.#ownsFiles = true;
    } catch (error) {
      this.close();
      this.kill();
      throw error;
    }
  }

  async stopAccepting(): Promise<void> {
    this.#ownsFiles = false;
    await this.#close();
  }

  close(): void {
    void this.#close();
  }

  /** Resolves when the last worker has ended. */
  async end(): Promise<void> {
    if (this.#workers.size > 0) await new Promise<void>((resolve) => this.#onEmpty.push(resolve));
    await this.#parts.auditHub.end();
    this.#watch.stop();
    if (this.#ownsFiles) await this.#sockets.removeFiles();
    this.#parts.counts.close();
  }

  /** Ends at once all that still run after a while. */
  killAfterGrace(): void {
    const timer = setTimeout(() => this.kill(), lastMs);
    this.#onEmpty.push(() => clearTimeout(timer));
  }

  /** Ends all that run at once. */
  kill(): void {
    for (const worker of this.#workers) worker.kill();
  }

  /** Why no new tunnel would open at some of them, as they have answered last; empty when all are ready. */
  notReadyReasons(): readonly string[] {
    return this.#slots.flatMap(({ number, worker }) => {
      if (worker?.instance === undefined) return [`worker ${number} is not there`];
      if (worker.answers && !worker.isResponsive)
        return [`worker ${number} has not answered for ${Math.floor(worker.silentMs / 1000)} s`];
      return worker.notReadyReasons.map((reason) => `worker ${number}: ${reason}`);
    });
  }

  /** Has all of them continue in a new audit file. */
  reopenAudit(): Promise<void> {
    return this.#client.reopenAudit();
  }

  /** Stops all that run; their tunnels have as long as those of a gateway that stops. */
  stop(limitMs: number): Promise<void> {
    const instances = [...this.#workers].flatMap(({ instance }) => instance ?? []);
    return this.#client.stop(instances, this.#parts.generation, limitMs);
  }

  /** Has all of them read settings. Resolves to what puts them in place everywhere; rejects when one cannot use them. */
  prepare(text: string): Promise<() => Promise<void>> {
    return this.#client.prepare(text);
  }

  #listening(): readonly LiveWorker[] {
    return this.#slots.flatMap(({ number, worker }) =>
      worker?.instance === undefined ? [] : [{ number, instance: worker.instance }],
    );
  }

  async #close(): Promise<void> {
    if (!this.#isAccepting) return;
    this.#isAccepting = false;
    for (const { retry, worker } of this.#slots) {
      clearTimeout(retry);
      // It could not receive a request yet.
      if (worker?.instance === undefined) worker?.kill();
    }
    this.#watch.stopAccepting();
    this.#sockets.close();
    await this.#client.stopAccepting();
  }

  /** Resolves when the worker listens; rejects when it ends before, and when there can be none. */
  async #start(slot: WorkerSlot): Promise<void> {
    const { auditHub, counts, configText, count, generation, env } = this.#parts;
    const { number } = slot;
    const sockets = this.#sockets.forWorker(number);
    const column = this.#freeColumns.shift();
    if (column === undefined) throw new Error('workers that have failed still have tunnels');
    try {
      const worker = new WorkerProcess({
        context: { generation, number, workers: count, column, columns: counts.columns },
        sockets,
        countsFd: counts.fd,
        configText: configText(),
        env,
        onSpawned: (child) => auditHub.serve(child),
        ownStartMs: this.#ownStartMs,
        onFailing: () => this.#vacate(slot, worker),
        onEnd: (why) => this.#onEnd(slot, worker, why),
      });
      slot.worker = worker;
      this.#workers.add(worker);
    } catch (error) {
      this.#freeColumns.push(column);
      throw error;
    }
    await slot.worker.listening;
  }

  #onEnd(slot: WorkerSlot, worker: WorkerProcess, why: object): void {
    if (!this.#workers.delete(worker)) return;
    this.#watch.forget(worker);
    const { counts, log } = this.#parts;
    counts.forget(worker.column);
    this.#freeColumns.push(worker.column);
    if (this.#isAccepting) log.error({ worker: slot.number, pid: worker.pid, ...why }, 'a worker has ended');
    // One that has not listened yet is replaced where it was started.
    if (worker.instance !== undefined) this.#vacate(slot, worker);
    if (this.#workers.size > 0) return;
    const onEmpty = this.#onEmpty;
    this.#onEmpty = [];
    for (const resolve of onEmpty) resolve();
  }

  /** A worker that has listened accepts no tunnels any more. */
  #vacate(slot: WorkerSlot, worker: WorkerProcess): void {
    if (slot.worker !== worker) return;
    slot.worker = undefined;
    if (performance.now() - worker.startedAt > shortRunMs) slot.failures = 0;
    if (this.#isAccepting) this.#replace(slot);
  }

  #replace(slot: WorkerSlot): void {
    slot.failures++;
    const waitMs = slot.failures === 1 ? 0 : Math.min(firstWaitMs * 2 ** (slot.failures - 2), maxWaitMs);
    // A caller that waits in its socket would wait as long; the other workers accept those who come.
    if (waitMs > 0) this.#sockets.release(slot.number);
    this.#parts.log.info({ worker: slot.number, waitMs }, 'replacing a worker');
    slot.retry = setTimeout(() => void this.#startAgain(slot), waitMs);
  }

  async #startAgain(slot: WorkerSlot): Promise<void> {
    const { log, onReplaced } = this.#parts;
    try {
      await this.#start(slot);
      onReplaced();
      log.info({ worker: slot.number, pid: slot.worker?.pid }, 'worker replaced');
    } catch (err) {
      slot.worker = undefined;
      if (!this.#isAccepting) return;
      log.error({ worker: slot.number, err }, 'a worker cannot be started');
      this.#replace(slot);
    }
  }
}
