import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { fileIdentity } from './sqlite-files.ts';
import { translateSqliteError, makePrivate, sqlite } from './sqlite.ts';
import type { Seen } from './store.ts';

const sweepMs = 1000;
/** A sweep takes this many rows, a few milliseconds; what it leaves over is for the next one. */
const sweptRows = 5000;
/** The thread of the store waits for the lock too, and the caller can try again. */
const busyMs = 20;
/** 64 MiB are a million ids: 8000 new ones a second for two minutes. */
const defaultMaxPages = 16_384;
/** Of the hash; a caller that finds two ids with the same hash can only have one of its own refused. */
const idBytes = 16;

export interface SeenOptions {
  /** The size that the file can reach, in pages of 4 KiB. */
  readonly maxPages?: number;
}

/**
 * Ids in a file of SQLite that is never flushed: `synchronous = OFF` is safe when processes die, and after a crash of the
 * machine the file can be damaged. Then it is made anew: what was in it is older than the crash.
 */
export class SqliteSeen implements Seen {
  readonly #file: string;
  readonly #identity: string | undefined;
  readonly #now: () => number;
  readonly #database: DatabaseSync;
  readonly #add: StatementSync;
  readonly #forget: StatementSync;
  readonly #sweeping: NodeJS.Timeout;

  /** No other process may be opening the file at the same time. Throws `STORE_UNAVAILABLE`. */
  constructor(file: string, now: () => number, { maxPages = defaultMaxPages }: SeenOptions = {}) {
    this.#file = file;
    this.#now = now;
    makePrivate(file);
    this.#database = translateSqliteError(file, () => openOrReplace(file, maxPages));
    this.#identity = fileIdentity(file);
    this.#add = this.#database.prepare('INSERT OR IGNORE INTO seen VALUES (?, ?)');
    this.#forget = this.#database.prepare(
      'DELETE FROM seen WHERE id IN (SELECT id FROM seen WHERE until <= ? LIMIT ?)',
    );
    this.#sweeping = setInterval(() => this.#sweepQuietly(), sweepMs).unref();
  }

  async add(id: string, expiresAt: number): Promise<boolean> {
    const key = createHash('sha256').update(id).digest().subarray(0, idBytes);
    return translateSqliteError(
      this.#file,
      () => Number(this.#add.run(key, Math.ceil(expiresAt)).changes) === 1,
    );
  }

  /** Whether the file at the path is still the one that is open; otherwise other processes have another one. */
  isCurrent(): boolean {
    return fileIdentity(this.#file) === this.#identity;
  }

  close(): void {
    clearInterval(this.#sweeping);
    if (this.#database.isOpen) this.#database.close();
  }

  #sweepQuietly(): void {
    try {
      this.#forget.run(this.#now(), sweptRows);
    } catch {
      // An id that is remembered for too long refuses nothing new; a file that cannot be written fails the next `add`.
    }
  }
}

function openOrReplace(file: string, maxPages: number): DatabaseSync {
  try {
    return open(file, maxPages);
  } catch (error) {
    if (!isDamage(error)) throw error;
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
    makePrivate(file);
    return open(file, maxPages);
  }
}

function open(file: string, maxPages: number): DatabaseSync {
  const { DatabaseSync } = sqlite();
  const database = new DatabaseSync(file);
  try {
    database.exec(`PRAGMA busy_timeout = ${busyMs}; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF`);
    const [found] = database.prepare('PRAGMA quick_check(1)').all();
    if (found?.quick_check !== 'ok') throw new DamageFoundError(String(found?.quick_check));
    database.exec(`
      PRAGMA max_page_count = ${maxPages};
      CREATE TABLE IF NOT EXISTS seen (id BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS byTime ON seen (until)`);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

class DamageFoundError extends Error {}

/** SQLITE_CORRUPT and SQLITE_NOTADB (https://sqlite.org/rescode.html). */
function isDamage(error: unknown): boolean {
  if (error instanceof DamageFoundError) return true;
  const { errcode } = error as { errcode?: unknown };
  return typeof errcode === 'number' && [11, 26].includes(errcode & 0xff);
}
