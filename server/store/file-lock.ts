import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { sqlite } from './sqlite.ts';

/** SQLITE_BUSY (https://sqlite.org/rescode.html). */
const busyCode = 5;
/** The lock is held for a flush of the disk or less: a retry comes about as soon as it can succeed. */
const retryMs = 1;

/**
 * A lock that one process of several can hold at a time. It is SQLite's, which is the kernel's: it is free again as soon
 * as its holder has ended, in whatever manner.
 */
export class FileLock {
  readonly #database: DatabaseSync;
  readonly #begin: StatementSync;
  readonly #rollback: StatementSync;

  /** Makes the file if there is none; it stays empty. Throws what SQLite throws when it cannot. */
  constructor(file: string) {
    const { DatabaseSync } = sqlite();
    this.#database = new DatabaseSync(file);
    this.#database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY');
    this.#begin = this.#database.prepare('BEGIN IMMEDIATE');
    this.#rollback = this.#database.prepare('ROLLBACK');
  }

  /** Waits until the lock is free. Resolves to the function that releases it; rejects when that takes longer than `limitMs`. */
  async acquire(limitMs: number): Promise<() => void> {
    const deadline = performance.now() + limitMs;
    while (!this.#tryToAcquire()) {
      if (performance.now() > deadline) throw new Error('another process holds the lock');
      await delay(retryMs);
    }
    return () => void this.#rollback.run();
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }

  #tryToAcquire(): boolean {
    try {
      this.#begin.run();
      return true;
    } catch (error) {
      if ((error as { errcode?: number }).errcode === busyCode) return false;
      throw error;
    }
  }
}
