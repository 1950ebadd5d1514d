import { chmodSync, closeSync, lstatSync, openSync } from 'node:fs';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { sqlite } from './sqlite.ts';

/** SQLITE_BUSY (https://sqlite.org/rescode.html). */
const busyCode = 5;
/** The lock is held for a write or less: a retry comes about as soon as it can succeed. */
const retryMs = 1;

/**
 * A lock that one process of several can hold at a time. It is SQLite's, which is the kernel's: it is free again as soon
 * as its holder has ended, in whatever manner.
 */
export class FileLock {
  /** Other users could open the file, and so hold the lock, until now. */
  readonly wasOpenToOthers: boolean;
  readonly #database: DatabaseSync;
  readonly #begin: StatementSync;
  readonly #rollback: StatementSync;

  /**
   * Makes the file, with mode 0600, if there is none; it stays empty. One that other users can open is made private.
   * Throws for one that belongs to another user, and what the file system and SQLite throw.
   */
  constructor(file: string) {
    this.wasOpenToOthers = makeLockFile(file);
    this.#database = openDatabase(file);
    this.#begin = this.#database.prepare('BEGIN IMMEDIATE');
    this.#rollback = this.#database.prepare('ROLLBACK');
  }

  /** Waits until the lock is free. Resolves to the function that releases it; rejects when that takes longer than `limitMs`. */
  async acquire(limitMs: number): Promise<() => void> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const release = this.tryAcquire();
      if (release) return release;
      if (performance.now() > deadline) throw new Error('another process holds the lock');
      await delay(retryMs);
    }
  }

  /** The function that releases the lock; undefined when another process holds it. */
  tryAcquire(): (() => void) | undefined {
    return isBusy(() => this.#begin.run()) ? undefined : () => void this.#rollback.run();
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }
}

/** Shows other processes that this one is there, in the file of a `FileLock`, which they can hold all the same. */
export class Presence {
  readonly #database: DatabaseSync;

  /** The file must exist. */
  constructor(file: string) {
    this.#database = openDatabase(file);
  }

  /** Runs `work` and returns true when no other process is present; must not be announced yet. */
  ifAlone(work: () => void): boolean {
    if (isBusy(() => this.#database.exec('BEGIN EXCLUSIVE'))) return false;
    try {
      work();
    } finally {
      this.#database.exec('ROLLBACK');
    }
    return true;
  }

  /** From now on this process is present, until it ends or closes this. Returns false when another one is just looking. */
  announce(): boolean {
    this.#database.exec('BEGIN');
    const isRefused = isBusy(() => this.#database.prepare('SELECT count(*) FROM sqlite_master').get());
    if (isRefused) this.#database.exec('ROLLBACK');
    return !isRefused;
  }

  close(): void {
    if (this.#database.isOpen) this.#database.close();
  }
}

function openDatabase(file: string): DatabaseSync {
  const { DatabaseSync } = sqlite();
  const database = new DatabaseSync(file);
  database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY');
  return database;
}

function isBusy(work: () => unknown): boolean {
  try {
    work();
    return false;
  } catch (error) {
    if ((error as { errcode?: number }).errcode === busyCode) return true;
    throw error;
  }
}

/**
 * Makes the file or makes it private; returns whether others could open it. It is never opened here once it exists:
 * closing any descriptor of a file takes all the locks of this process on it away (fcntl(2)).
 */
function makeLockFile(file: string): boolean {
  const stats = lstatSync(file, { throwIfNoEntry: false });
  if (stats === undefined) {
    try {
      closeSync(openSync(file, 'wx', 0o600));
    } catch (error) {
      // Another process has just made it.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    return false;
  }
  if (!stats.isFile()) throw new Error(`${file} has to be a file of the gateway's own; remove it`);
  const user = process.geteuid?.();
  if (user !== undefined && user !== 0 && stats.uid !== user && stats.uid !== 0)
    throw new Error(`${file} belongs to another user, who could hold its lock; remove it`);
  // Windows has no such modes; there the directory has to be private.
  if (process.platform === 'win32' || (stats.mode & 0o077) === 0) return false;
  chmodSync(file, 0o600);
  return true;
}
