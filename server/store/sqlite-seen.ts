import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { translateSqliteError, makePrivate, sqlite } from './sqlite.ts';
import type { Seen } from './store.ts';

const sweepMs = 1000;
/** A sweep takes the event loop this many rows long, a few milliseconds; what it leaves over is for the next one. */
const sweptRows = 5000;
/** The event loop waits with it, and the caller can come again: far less than for the store. */
const busyMs = 200;
/** 64 MiB are a million ids: 8000 new ones a second for two minutes. */
const defaultMaxPages = 16_384;
/** Of the hash; who finds two ids that share it can only refuse one of their own. */
const idBytes = 16;

export interface SeenOptions {
  /** How large the file may become, in pages of 4 KiB. */
  readonly maxPages?: number;
}

/**
 * Ids in a file of SQLite that is never flushed: `synchronous = OFF` is safe when processes die, and after a crash of the
 * machine the file may be damaged. Then it is made anew: what was in it is older than the crash.
 */
export class SeenInFile implements Seen {
  readonly #file: string;
  readonly #now: () => number;
  readonly #database: DatabaseSync;
  readonly #add: StatementSync;
  readonly #forget: StatementSync;
  readonly #sweeping: NodeJS.Timeout;

  /** No other process may open the file in the same moment. Throws `STORE_UNAVAILABLE`. */
  constructor(file: string, now: () => number, { maxPages = defaultMaxPages }: SeenOptions = {}) {
    this.#file = file;
    this.#now = now;
    makePrivate(file);
    this.#database = translateSqliteError(file, () => openOrReplace(file, maxPages));
    this.#add = this.#database.prepare('INSERT OR IGNORE INTO seen VALUES (?, ?)');
    this.#forget = this.#database.prepare(
      'DELETE FROM seen WHERE id IN (SELECT id FROM seen WHERE until <= ? LIMIT ?)',
    );
    this.#sweeping = setInterval(() => this.#sweepQuietly(), sweepMs).unref();
  }

  add(id: string, until: number): boolean {
    const key = createHash('sha256').update(id).digest().subarray(0, idBytes);
    return translateSqliteError(this.#file, () => Number(this.#add.run(key, Math.ceil(until)).changes) === 1);
  }

  close(): void {
    clearInterval(this.#sweeping);
    if (this.#database.isOpen) this.#database.close();
  }

  #sweepQuietly(): void {
    try {
      this.#forget.run(this.#now(), sweptRows);
    } catch {
      // What is remembered for too long refuses nothing that is new; what cannot be written says so at the next `add`.
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
    if (found?.quick_check !== 'ok') throw new DamageFound(String(found?.quick_check));
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

class DamageFound extends Error {}

/** SQLITE_CORRUPT and SQLITE_NOTADB (https://sqlite.org/rescode.html). */
function isDamage(error: unknown): boolean {
  if (error instanceof DamageFound) return true;
  const { errcode } = error as { errcode?: unknown };
  return typeof errcode === 'number' && [11, 26].includes(errcode & 0xff);
}
