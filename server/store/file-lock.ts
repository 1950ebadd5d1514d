import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { sqlite } from './sqlite.ts';

/** SQLITE_BUSY (https://sqlite.org/rescode.html). */
const busyCode = 5;
/** What it is held for is a flush of the disk or less; who has to wait for each tries again about as soon as it can be. */
const retryMs = 1;

/**
 * Something that one process of several does at a time. The lock is SQLite's, which is the kernel's: it is free again
 * as soon as its holder is gone, however that came.
 */
export class FileLock {
  readonly #database: DatabaseSync;
  readonly #begin: StatementSync;
  readonly #rollback: StatementSync;

  /** Makes the file if it is not there; nothing is ever in it. Throws what SQLite throws where that cannot be. */
  constructor(file: string) {
    const { DatabaseSync } = sqlite();
    this.#database = new DatabaseSync(file);
    this.#database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY');
    this.#begin = this.#database.prepare('BEGIN IMMEDIATE');
    this.#rollback = this.#database.prepare('ROLLBACK');
  }

  /** Waits until nobody holds it. Returns what gives it back; rejects when that takes longer than `limitMs`. */
  async take(limitMs: number): Promise<() => void> {
    const deadline = performance.now() + limitMs;
    while (!this.#tryToTake()) {
      if (performance.now() > deadline) throw new Error('another process holds the lock');
      await delay(retryMs);
    }
    return () => void this.#rollback.run();
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }

  #tryToTake(): boolean {
    try {
      this.#begin.run();
      return true;
    } catch (error) {
      if ((error as { errcode?: number }).errcode === busyCode) return false;
      throw error;
    }
  }
}
