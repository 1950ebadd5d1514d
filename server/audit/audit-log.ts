import type { FileLock } from '../store/file-lock.ts';
import { AuditFile } from './audit-file.ts';
import type { AuditFields } from './audit-file.ts';

export interface AuditLogOptions {
  /** Told when a write fails, and when writing works again. */
  readonly onState?: (failure: Error | undefined) => void;
  /** Told of records that had to be given up. */
  readonly onLost?: (count: number) => void;
  /** Held while writing, where other processes write the file too. Closed with the log. */
  readonly lock?: FileLock;
}

interface Waiting {
  readonly fields: AuditFields;
  /** Absent for records that are kept and written when writing works again. */
  readonly settle?: (error?: Error) => void;
}

/** Records that wait for a disk that is full or does not answer; beyond that they are counted as lost. */
const maxKept = 10_000;
const retryMs = 1000;

/**
 * What has to be written down, on its way to the file. Records that come together are written and flushed together; what
 * may wait survives a disk that is full, within bounds.
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

  /** Why the last write failed, or undefined when it did not. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Opens the file, so that a path that cannot be written is known at the start. Throws what `open` throws. */
  async start(): Promise<void> {
    await this.#file.open();
  }

  /** Resolves when the record is on the disk; rejects when it is not and will not be. */
  append(fields: AuditFields): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ fields, settle: (error) => (error ? reject(error) : resolve()) });
      this.#run();
    });
  }

  /** Writes the record when that is possible; it survives a full disk, within bounds. */
  appendEventually(fields: AuditFields): void {
    if (this.#waiting.length >= maxKept) return this.#options.onLost?.(1);
    this.#waiting.push({ fields });
    this.#run();
  }

  /** Goes on in a file of the same name: the old one may have been moved away by rotation. */
  reopen(): void {
    this.#file.reopen();
  }

  /** Writes what waits, as far as that is possible, and closes the file. */
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
    // In the same turn as the last look at what waits: whatever comes later starts a new run.
    this.#running = undefined;
  }

  async #flush(batch: readonly Waiting[]): Promise<void> {
    try {
      await this.#file.append(batch.map(({ fields }) => fields));
      this.#succeeded();
      for (const { settle } of batch) settle?.();
    } catch (error) {
      this.#failed(error as Error, batch);
    }
  }

  #succeeded(): void {
    if (!this.#failure) return;
    this.#failure = undefined;
    this.#options.onState?.(undefined);
  }

  #failed(error: Error, batch: readonly Waiting[]): void {
    if (!this.#failure) this.#options.onState?.(error);
    this.#failure = error;
    for (const { settle } of batch) settle?.(error);
    const keep = [...batch.filter(({ settle }) => !settle), ...this.#kept];
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
