import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { z } from 'zod';
import type { Logger } from 'pino';
import { removeSocketFile } from '../listener/listen.ts';
import type { ListenSpec, SharingOptions } from '../listener/listen.ts';
import type { HeldSocket } from '../listener/bound-socket.ts';
import { bindSocket, bindSockets } from '../listener/bound-socket.ts';
import type { SharedCounts } from './shared-counter.ts';
import { formatWorkerPlace, predecessorVariable, workerVariable } from './systemd.ts';
import { requestJson } from './peer-client.ts';
import type { PeerResponse } from './peer-client.ts';
import type { PublicListener } from '../listener/public-listener.ts';
import { detailOf } from './worker-api.ts';

/** Who does not listen by then does not start. */
const startMs = 20_000;
const askMs = 5000;
/** A worker that was there for less time is likely to end again. */
const soonMs = 10_000;
const firstWaitMs = 1000;
const longestWaitMs = 30_000;
/** Everything has been ended, and the worker itself still runs. */
const lastMs = 10_000;

/** What a worker says to the process that leads it. */
export type WorkerNotice = { readonly listening: string } | { readonly failing: true };

const notice = z.union([
  z.strictObject({ listening: z.string() }),
  z.strictObject({ failing: z.literal(true) }),
]);

export interface WorkersParts {
  readonly count: number;
  readonly door: ListenSpec;
  /** The name of this process. */
  readonly generation: string;
  /** Has two columns for each worker: one that ends slowly keeps its own. */
  readonly counts: SharedCounts;
  readonly socketOf: (instance: string) => string;
  /** The text of the config file that is in force. */
  readonly configText: () => string;
  /** Called when a worker has ended by itself. */
  readonly onReplaced: () => void;
  readonly log: Logger;
  readonly env: NodeJS.ProcessEnv;
}

/** The place of one worker, whoever has it. */
interface WorkerSlot {
  readonly number: number;
  socket: HeldSocket | undefined;
  child: Child | undefined;
  /** How often one has ended soon, in a row. */
  failures: number;
  waiting: NodeJS.Timeout | undefined;
}

interface Child {
  readonly process: ChildProcess;
  readonly column: number;
  readonly startedAt: number;
  instance: string | undefined;
}

/**
 * The processes that take the tunnels of a gateway, led by this one. They are children of it; one that ends by itself is
 * replaced. Where the kernel divides callers among sockets of one port, each has a socket of its own, which this process
 * holds too: who waits in it when its worker dies is taken by the next one.
 */
export class Workers implements PublicListener {
  readonly #parts: WorkersParts;
  readonly #seats: readonly WorkerSlot[];
  readonly #children = new Set<Child>();
  readonly #freeColumns: number[];
  #shared: HeldSocket | undefined;
  #isTaking = false;
  #isHeld = false;
  #onGone: (() => void)[] = [];

  constructor(parts: WorkersParts) {
    this.#parts = parts;
    this.#seats = Array.from({ length: parts.count }, (_, at) => ({
      number: at + 1,
      socket: undefined,
      child: undefined,
      failures: 0,
      waiting: undefined,
    }));
    this.#freeColumns = Array.from({ length: parts.counts.columns }, (_, column) => column);
  }

  /** Sockets of a shared port are one for each worker: a successor binds its own beside them. */
  get fd(): number | undefined {
    return this.#shared?.fd;
  }

  /** How many listen. */
  get alive(): number {
    return this.#listening().length;
  }

  /** Resolves when all listen; otherwise none does. */
  async open(turn: SharingOptions['mode']): Promise<void> {
    const { door } = this.#parts;
    const sockets = await bindSockets(door, turn, this.#seats.length);
    if (sockets.length < this.#seats.length || !sockets[0]!.sharesPort) [this.#shared] = sockets;
    else for (const [at, seat] of this.#seats.entries()) seat.socket = sockets[at];
    this.#isTaking = true;
    try {
      await Promise.all(this.#seats.map((seat) => this.#start(seat)));
      await this.#shared?.publish();
      this.#isHeld = true;
    } catch (error) {
      this.close();
      this.kill();
      throw error;
    }
  }

  async stopAccepting(): Promise<void> {
    this.#isHeld = false;
    await this.#stopTaking();
  }

  close(): void {
    void this.#stopTaking();
  }

  /** Resolves when the last worker has ended. */
  async end(): Promise<void> {
    if (this.#children.size > 0) await new Promise<void>((resolve) => this.#onGone.push(resolve));
    if (this.#isHeld) await removeSocketFile(this.#parts.door);
    this.#parts.counts.close();
  }

  /** Ends at once all that still run after a while. */
  killAfterGrace(): void {
    const late = setTimeout(() => this.kill(), lastMs);
    this.#onGone.push(() => clearTimeout(late));
  }

  kill(): void {
    for (const { process: child } of this.#children) child.kill('SIGKILL');
  }

  /** Why no new tunnel would open at some of them. */
  async notReadyReasons(): Promise<readonly string[]> {
    const found = await Promise.all(
      this.#seats.map(async ({ number, child }) => {
        if (child?.instance === undefined) return [`worker ${number} is not there`];
        const answer = await this.#ask(child.instance, '/obstacles').catch(() => undefined);
        if (answer?.status !== 200) return [`worker ${number} does not answer`];
        return (answer.body as readonly string[]).map((why) => `worker ${number}: ${why}`);
      }),
    );
    return found.flat();
  }

  /** Who is which worker. */
  get numbers(): ReadonlyMap<string, number> {
    return new Map(this.#listening().map(({ seat, instance }) => [instance, seat.number]));
  }

  async reopenAudit(): Promise<void> {
    await this.#askAll('/reopen-audit', {});
  }

  /** Their tunnels have as long as those of a gateway that stops. */
  async stop(limitMs: number): Promise<void> {
    await Promise.all(
      [...this.#children].flatMap(({ instance }) =>
        instance === undefined
          ? []
          : [this.#ask(instance, '/stop', { by: this.#parts.generation }, limitMs).catch(() => undefined)],
      ),
    );
  }

  /** Has all of them read settings. Resolves to what puts them in place everywhere; rejects when one cannot use them. */
  async prepare(text: string): Promise<() => Promise<void>> {
    const answers = await this.#askAll('/reload', { text });
    const refusals = answers.flatMap(({ seat, answer }) =>
      answer?.status === 200
        ? []
        : [`worker ${seat.number}: ${answer ? detailOf(answer) : 'it does not answer'}`],
    );
    if (refusals.length === 0) return async () => void (await this.#askAll('/reload', { step: 'commit' }));
    await this.#askAll('/reload', { step: 'drop' });
    throw new Error(refusals[0]);
  }

  #listening(): readonly { readonly seat: WorkerSlot; readonly instance: string }[] {
    return this.#seats.flatMap((seat) =>
      seat.child?.instance === undefined ? [] : [{ seat, instance: seat.child.instance }],
    );
  }

  #askAll(
    path: string,
    body: object,
  ): Promise<readonly { readonly seat: WorkerSlot; readonly answer: PeerResponse | undefined }[]> {
    return Promise.all(
      this.#listening().map(async ({ seat, instance }) => ({
        seat,
        answer: await this.#ask(instance, path, body).catch(() => undefined),
      })),
    );
  }

  #ask(instance: string, path: string, body?: object, timeoutMs = askMs): Promise<PeerResponse> {
    return requestJson(this.#parts.socketOf(instance), { path, timeoutMs, ...(body && { body }) });
  }

  async #stopTaking(): Promise<void> {
    if (!this.#isTaking) return;
    this.#isTaking = false;
    for (const seat of this.#seats) {
      clearTimeout(seat.waiting);
      seat.socket?.close();
      seat.socket = undefined;
      // It could not hear us yet.
      if (seat.child !== undefined && seat.child.instance === undefined) seat.child.process.kill('SIGKILL');
    }
    this.#shared?.close();
    await this.#askAll('/yield', {});
  }

  /** Resolves when the worker listens; rejects when it ends before, and when there can be none. */
  async #start(seat: WorkerSlot): Promise<void> {
    const { counts, log, configText } = this.#parts;
    seat.socket ??= this.#shared ? undefined : bindSocket(this.#parts.door);
    const column = this.#freeColumns.shift();
    if (column === undefined) throw new Error('workers that have failed still have tunnels');
    const child = this.#spawn(seat, column);
    const started: Child = { process: child, column, startedAt: performance.now(), instance: undefined };
    seat.child = started;
    this.#children.add(started);
    const listens = Promise.withResolvers<void>();
    const late = setTimeout(() => child.kill('SIGKILL'), startMs);
    child.on('message', (said) => {
      const { data } = notice.safeParse(said);
      if (data === undefined) return;
      if ('listening' in data) {
        clearTimeout(late);
        started.instance = data.listening;
        listens.resolve();
      } else this.#lose(seat, started);
    });
    const gone = (why: object): void => {
      if (!this.#children.delete(started)) return;
      clearTimeout(late);
      counts.forget(column);
      this.#freeColumns.push(column);
      if (this.#isTaking) log.error({ worker: seat.number, pid: child.pid, ...why }, 'a worker has ended');
      if (started.instance === undefined) listens.reject(new Error(`worker ${seat.number} does not start`));
      else this.#lose(seat, started);
      if (this.#children.size === 0) this.#allGone();
    };
    // There is no process then.
    child.once('error', (err) => child.pid === undefined && gone({ err }));
    child.once('exit', (code, signal) => gone({ code, signal }));
    child.send({ configText: configText() }, () => {});
    await listens.promise;
  }

  #spawn(seat: WorkerSlot, column: number): ChildProcess {
    const { generation, counts, count, env } = this.#parts;
    const place = { generation, number: seat.number, workers: count, column, columns: counts.columns };
    try {
      return spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
        stdio: ['ignore', 'inherit', 'inherit', (seat.socket ?? this.#shared)!.fd, counts.fd, 'ipc'],
        env: { ...env, [predecessorVariable]: undefined, [workerVariable]: formatWorkerPlace(place) },
      });
    } catch (error) {
      this.#freeColumns.push(column);
      throw error;
    }
  }

  #allGone(): void {
    const waiting = this.#onGone;
    this.#onGone = [];
    for (const resolve of waiting) resolve();
  }

  /** One that was there takes no tunnels any more. */
  #lose(seat: WorkerSlot, child: Child): void {
    if (seat.child !== child) return;
    seat.child = undefined;
    if (performance.now() - child.startedAt > soonMs) seat.failures = 0;
    if (this.#isTaking) this.#replace(seat);
  }

  #replace(seat: WorkerSlot): void {
    const { log, onReplaced } = this.#parts;
    seat.failures++;
    const waitMs = seat.failures === 1 ? 0 : Math.min(firstWaitMs * 2 ** (seat.failures - 2), longestWaitMs);
    if (waitMs > 0) {
      // Who waits in it would wait as long; the others take those who come.
      seat.socket?.close();
      seat.socket = undefined;
    }
    log.info({ worker: seat.number, waitMs }, 'replacing a worker');
    const start = async (): Promise<void> => {
      try {
        await this.#start(seat);
        onReplaced();
        log.info({ worker: seat.number, pid: seat.child?.process.pid }, 'worker replaced');
      } catch (err) {
        seat.child = undefined;
        if (!this.#isTaking) return;
        log.error({ worker: seat.number, err }, 'a worker cannot be started');
        this.#replace(seat);
      }
    };
    seat.waiting = setTimeout(() => void start(), waitMs);
  }
}
