import { setTimeout as delay } from 'node:timers/promises';
import { auditNote } from './audit-chain.ts';
import type { AuditFields } from './audit-chain.ts';
import type { AuditSink } from './audit-sink.ts';

export interface AuditLogOptions {
  /** Called when writing fails or takes too long, and with nothing when it works again. */
  readonly onState?: (failure: Error | undefined) => void;
  /** Called with the number of records that had to be dropped. */
  readonly onLost?: (count: number) => void;
}

interface Waiting {
  /** Written all together or not at all. */
  readonly records: readonly AuditFields[];
  /**
   * `now`: the caller waits for some time, and it is written now or never; `passed`: the same for another process, which
   * waits itself. The others are kept until they can be written.
   */
  readonly kind: 'now' | 'passed' | 'tunnel' | 'stranger';
  readonly since: number;
  readonly onWritten?: (error?: Error) => void;
}

/** Records of each kind that wait for a disk that is full or does not answer; more are counted as lost. */
const maxKept = { tunnel: 10_000, stranger: 1000 };
const maxBatch = 1000;
const retryMs = 1000;
/** A caller waits for so long; then the record counts as not written. */
const patienceMs = 10_000;
/** How often it is looked at whether the file still has its name, when nothing is written. */
const lookMs = 5000;
/** A process that ends waits for the disk for so long. */
const closeMs = 10_000;

/**
 * The queue of records on their way to the file. Records that come together are written and flushed together; those that
 * can wait survive a disk that is full, within bounds. Strangers cannot displace the records of tunnels.
 */
export class AuditLog {
  readonly #sink: AuditSink;
  readonly #options: AuditLogOptions;
  #queue: Waiting[] = [];
  #inFlight: readonly Waiting[] = [];
  readonly #kept = { tunnel: 0, stranger: 0 };
  #running: Promise<void> | undefined;
  #mustLook = false;
  #failure: Error | undefined;
  #failedAt = '';
  #lost = 0;
  #retry: NodeJS.Timeout | undefined;
  #impatience: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;
  readonly #beforeClose: (() => void)[] = [];

  constructor(sink: AuditSink, options: AuditLogOptions = {}) {
    this.#sink = sink;
    this.#options = options;
  }

  /** The error of the last write, or that it takes too long; undefined when it succeeded. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Opens the file, so that a path that cannot be written is found at the start. Rejects with the error of `open`. */
  async start(): Promise<void> {
    await this.#sink.open();
    this.#look = setInterval(() => this.#sink.isDisplaced && this.#lookAfter(), lookMs).unref();
  }

  /** Resolves when the record is on the disk; rejects when it is not, or not in time. */
  append(fields: AuditFields): Promise<void> {
    this.#impatience ??= setInterval(() => this.#rejectImpatient(), retryMs);
    return this.#written([fields], 'now');
  }

  /** The same for records of another process, all of them or none, however long it takes. */
  appendAll(records: readonly AuditFields[]): Promise<void> {
    return this.#written(records, 'passed');
  }

  /** Writes the record when that is possible; it survives a full disk, within bounds. */
  appendEventually(fields: AuditFields, kind: 'tunnel' | 'stranger' = 'tunnel'): void {
    if (this.#kept[kind] >= maxKept[kind]) return this.#lose(1);
    this.#kept[kind]++;
    this.#push({ records: [fields], kind });
  }

  /** Continues in a file of the same name, and makes it now: rotation has moved the old one away. */
  reopen(): void {
    this.#sink.reopen();
    this.#lookAfter();
  }

  /** Adds what has to be done when this is about to be closed: the time of the last records. */
  beforeClose(work: () => void): void {
    this.#beforeClose.push(work);
  }

  /** Resolves when nothing is being written. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  /** Writes what waits, as far as that is possible within ten seconds, and closes the file. */
  async close(): Promise<void> {
    clearInterval(this.#look);
    for (const work of this.#beforeClose) work();
    await Promise.race([this.#writeLast(), delay(closeMs, undefined, { ref: false })]);
    clearTimeout(this.#retry);
    clearInterval(this.#impatience);
    const { tunnel, stranger } = this.#kept;
    if (tunnel + stranger > 0) this.#lose(tunnel + stranger);
    await this.#sink.close();
  }

  async #writeLast(): Promise<void> {
    await this.idle();
    if (this.#queue.length > 0) await this.#run();
  }

  #written(records: readonly AuditFields[], kind: 'now' | 'passed'): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#push({ records, kind, onWritten: (error) => (error ? reject(error) : resolve()) });
    });
  }

  #push(waiting: Omit<Waiting, 'since'>): void {
    this.#queue.push({ ...waiting, since: performance.now() });
    void this.#run();
  }

  #lookAfter(): void {
    this.#mustLook = true;
    void this.#run();
  }

  #run(): Promise<void> {
    this.#running ??= this.#writeAll();
    return this.#running;
  }

  async #writeAll(): Promise<void> {
    do {
      // One turn of the event loop, so that what comes together is flushed together.
      await new Promise((resolve) => setImmediate(resolve));
      this.#inFlight = this.#queue.slice(0, maxBatch);
      this.#queue = this.#queue.slice(maxBatch);
      this.#mustLook = false;
      const isWritten = await this.#flush(this.#inFlight);
      this.#inFlight = [];
      if (!isWritten) break;
    } while (this.#queue.length > 0 || this.#mustLook);
    // In the same turn as the last check of what waits: a record that comes later starts a new run.
    this.#running = undefined;
  }

  async #flush(batch: readonly Waiting[]): Promise<boolean> {
    const lost = this.#lost;
    const note =
      this.#failure || lost > 0
        ? [
            auditNote('continued', {
              lost,
              ...(this.#failure && { since: this.#failedAt, reason: this.#failure.message }),
            }),
          ]
        : [];
    try {
      await this.#sink.append([...note, ...batch.flatMap(({ records }) => records)]);
    } catch (error) {
      this.#onFailure(error as Error, batch);
      return false;
    }
    this.#lost -= lost;
    for (const { kind, onWritten } of batch) {
      if (isKept(kind)) this.#kept[kind]--;
      onWritten?.();
    }
    this.#setFailure(undefined);
    return true;
  }

  #setFailure(failure: Error | undefined): void {
    const hadFailed = this.#failure !== undefined;
    this.#failure = failure;
    if (hadFailed === (failure !== undefined)) return;
    if (failure) this.#failedAt = new Date().toISOString();
    this.#options.onState?.(failure);
  }

  #onFailure(error: Error, batch: readonly Waiting[]): void {
    this.#setFailure(error);
    const all = [...batch, ...this.#queue];
    this.#queue = all.filter(({ kind }) => isKept(kind));
    for (const { onWritten } of all) onWritten?.(error);
    // Also where nothing waits: otherwise nothing would find out that there is room again.
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      void this.#run();
    }, retryMs).unref();
  }

  /** A disk or a process that does not answer holds up new tunnels for a time, then they are refused. */
  #rejectImpatient(): void {
    // Those that are being written can get into the file yet, as with every failure.
    const overdue = [...this.#inFlight, ...this.#queue].filter(isOverdue);
    if (overdue.length > 0) {
      const error = new Error(`a write of the audit has taken more than ${patienceMs / 1000} seconds`);
      this.#queue = this.#queue.filter((each) => !isOverdue(each));
      for (const { onWritten } of overdue) onWritten?.(error);
      this.#setFailure(error);
    }
    if (!this.#running) {
      clearInterval(this.#impatience);
      this.#impatience = undefined;
    }
  }

  #lose(count: number): void {
    this.#lost += count;
    this.#options.onLost?.(count);
  }
}

function isKept(kind: Waiting['kind']): kind is 'tunnel' | 'stranger' {
  return kind === 'tunnel' || kind === 'stranger';
}

function isOverdue({ kind, since }: Waiting): boolean {
  return kind === 'now' && performance.now() - since > patienceMs;
}
