import type { Socket } from 'node:net';

/** How often a worker has to answer. */
const intervalMs = 1000;
/** Nothing is accepted by a worker that has been silent for so long: its callers go to the others. */
const withdrawMs = 10_000;
/** It is ended then, and replaced. */
const killMs = 30_000;
/**
 * A tick counts for no more than this, whatever the clock says: a machine that was suspended, or a supervisor that had no
 * time itself, must not blame its workers. They have this long to answer before the next tick.
 */
const maxTickMs = 2 * intervalMs;

/** A process whose event loop is watched. */
export interface Watched {
  /** For how long it has not answered, in milliseconds of this process's attention. */
  readonly silentMs: number;
  /** Adds a tick to its silence, if it has a ping to answer; sends the next ping otherwise. */
  tick(elapsedMs: number): void;
}

export interface HeartbeatOptions<Worker extends Watched> {
  /** Those to watch now. */
  readonly watched: () => Iterable<Worker>;
  /** Called once when a worker has been silent for a while; and when it answers again. */
  readonly onSilent: (worker: Worker) => void;
  readonly onAnswered: (worker: Worker) => void;
  /** Ends a worker that has been silent too long. */
  readonly onHung: (worker: Worker) => void;
  /**
   * Whether one can be ended now. Of several that are silent at once one is ended and replaced after the other: what
   * has stopped all of them is rarely the fault of each.
   */
  readonly canEnd: () => boolean;
  /** A monotonic clock, in milliseconds. */
  readonly now?: () => number;
}

/** Watches the event loops of workers. A worker that is merely slow, and answers in time, keeps all that it has. */
export class Heartbeat<Worker extends Watched> {
  readonly #options: HeartbeatOptions<Worker>;
  readonly #now: () => number;
  readonly #silent = new Set<Worker>();
  readonly #timer: NodeJS.Timeout;
  #lastTick: number;

  constructor(options: HeartbeatOptions<Worker>) {
    this.#options = options;
    this.#now = options.now ?? ((): number => performance.now());
    this.#lastTick = this.#now();
    this.#timer = setInterval(() => this.tick(), intervalMs);
    this.#timer.unref();
  }

  /** How many are silent. */
  get silentCount(): number {
    return this.#silent.size;
  }

  /** One look at all of them; the timer calls it. */
  tick(): void {
    const now = this.#now();
    const elapsedMs = Math.min(Math.max(0, now - this.#lastTick), maxTickMs);
    this.#lastTick = now;
    const watched = new Set(this.#options.watched());
    for (const worker of this.#silent) if (!watched.has(worker)) this.#silent.delete(worker);
    for (const worker of watched) {
      worker.tick(elapsedMs);
      this.#look(worker);
    }
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(worker: Worker): void {
    const { onSilent, onAnswered, onHung, canEnd } = this.#options;
    if (worker.silentMs < withdrawMs) {
      if (this.#silent.delete(worker)) onAnswered(worker);
      return;
    }
    if (!this.#silent.has(worker)) {
      this.#silent.add(worker);
      onSilent(worker);
    }
    if (worker.silentMs >= killMs && canEnd()) onHung(worker);
  }
}

/** Takes connections, in turn, that a worker has not accepted. */
export class Diversion {
  readonly #takers: () => readonly { take(connection: Socket): void }[];
  #next = 0;

  /** `takers`: the workers that answer. */
  constructor(takers: () => readonly { take(connection: Socket): void }[]) {
    this.#takers = takers;
  }

  /** A connection that no worker can take is closed, so that its client does not wait. */
  divert(connection: Socket): void {
    connection.on('error', () => {});
    const takers = this.#takers();
    const taker = takers[this.#next++ % takers.length];
    if (taker === undefined) connection.destroy();
    else taker.take(connection);
  }
}
