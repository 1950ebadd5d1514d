import type { FileLock } from '../store/file-lock.ts';
import { AuditFile } from './audit-file.ts';
import type { AuditFields } from './audit-file.ts';

export interface AuditLogOptions {
  /** Called when a write fails, and with nothing when writing works again. */
  readonly onState?: (failure: Error | undefined) => void;
  /** Called with the number of records that had to be dropped. */
  readonly onLost?: (count: number) => void;
  /** Held while writing, where other processes write the file too. Closed with the log. */
  readonly lock?: FileLock;
}

interface Waiting {
  readonly fields: AuditFields;
  /** Absent for records that are kept and written when writing works again. */
  readonly onWritten?: (error?: Error) => void;
}

/** Records that wait for a disk that is full or does not answer; beyond that they are counted as lost. */
const maxKept = 10_000;
const retryMs = 1000;

/**
 * The queue of records on their way to the file. Records that come together are written and flushed together; those that
 * can wait survive a disk that is full, within bounds.
 */
export class AuditLog {
  readonly #file: AuditFile;
  readonly #options: AuditLogOptions;
  #waiting: Waiting[] = [];
  #kept: Waiting[] = [];
  #running: Promise<void> | undefined;
  #failure: Error | undefined;
  #retry: NodeJS.Timeout | undefined;

  constructor(file: string, options: AuditLogOptions = {}) {
    this.#file = new AuditFile(file, options.lock);
    this.#options = options;
  }

  /** The error of the last write; undefined when it succeeded. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Opens the file, so that a path that cannot be written is found at the start. Rejects with the error of `open`. */
  async start(): Promise<void> {
    await this.#file.open();
  }

  /** Resolves when the record is on the disk; rejects when it is not and will not be written. */
  append(fields: AuditFields): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ fields, onWritten: (error) => (error ? reject(error) : resolve()) });
      this.#run();
    });
  }

  /** Writes the record when that is possible; it survives a full disk, within bounds. */
  appendEventually(fields: AuditFields): void {
    if (this.#waiting.length >= maxKept) return this.#options.onLost?.(1);
    this.#waiting.push({ fields });
    this.#run();
  }

  /** Continues in a file of the same name: rotation can have moved the old one away. */
  reopen(): void {
    this.#file.reopen();
  }

  /** Writes what waits, as far as that is possible, and closes the file and the lock. */
  async close(): Promise<void> {
    while (this.#running) await this.#running;
    if (this.#kept.length > 0) await this.#flush(this.#takeKept());
    clearTimeout(this.#retry);
    if (this.#kept.length > 0) this.#options.onLost?.(this.#kept.length);
    await this.#file.close();
    this.#options.lock?.close();
  }

  #run(): void {
    this.#running ??= this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      // One turn of the event loop, so that what comes together is flushed together.
      await new Promise((resolve) => setImmediate(resolve));
      const batch = [...this.#takeKept(), ...this.#waiting];
      this.#waiting = [];
      await this.#flush(batch);
    }
    // In the same turn as the last check of what waits: a record that comes later starts a new run.
    this.#running = undefined;
  }

  async #flush(batch: readonly Waiting[]): Promise<void> {
    try {
      await this.#file.append(batch.map(({ fields }) => fields));
      this.#onSuccess();
      for (const { onWritten } of batch) onWritten?.();
    } catch (error) {
      this.#onFailure(error as Error, batch);
    }
  }

  #onSuccess(): void {
    if (!this.#failure) return;
    this.#failure = undefined;
    this.#options.onState?.(undefined);
  }

  #onFailure(error: Error, batch: readonly Waiting[]): void {
    if (!this.#failure) this.#options.onState?.(error);
    this.#failure = error;
    for (const { onWritten } of batch) onWritten?.(error);
    const keep = [...batch.filter(({ onWritten }) => !onWritten), ...this.#kept];
    if (keep.length > maxKept) this.#options.onLost?.(keep.length - maxKept);
    this.#kept = keep.slice(0, maxKept);
    if (this.#kept.length === 0 || this.#retry) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#waiting.unshift(...this.#takeKept());
      this.#run();
    }, retryMs);
    this.#retry.unref();
  }

  #takeKept(): Waiting[] {
    const kept = this.#kept;
    this.#kept = [];
    return kept;
  }
}
