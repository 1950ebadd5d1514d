import { statSync } from 'node:fs';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { OpenFiles, fileIdentity } from './sqlite-files.ts';
import { DamagedError, NewerError, makePrivate, sqlite, translateSqliteError, unusable } from './sqlite.ts';

/** At the start nothing else waits; a slow disk, or another process that starts too, has this long. */
const openingMs = 5000;
/** Later a write is tried again by a timer, so that reads go on meanwhile. */
const busyMs = 20;
/** The least time between two looks at the files, and between two attempts to open a file that cannot be used. */
const lookMs = 200;
const reopenMs = 1000;
/** The layout of the file; a higher one is of a later version. */
export const layout = 1;

export interface ConnectionOptions {
  /** Called when the files have changed under the open database, with a sentence for the log. */
  readonly onNotice?: (text: string) => void;
}

/**
 * A connection to the database at a path, and not to a file that was there once: it is opened again when another file has
 * been put in its place. All methods throw `STORE_UNAVAILABLE`.
 */
export class SqliteConnection {
  readonly file: string;
  readonly #options: ConnectionOptions;
  readonly #statements = new Map<string, StatementSync>();
  #database: DatabaseSync | undefined;
  #files: OpenFiles;
  #lookedAt = performance.now();
  #isRemoved = false;
  #isOverwriting = false;

  /** Makes the file with mode 0600 where there is none. */
  constructor(file: string, options: ConnectionOptions = {}) {
    this.file = file;
    this.#options = options;
    makePrivate(file);
    const before = fileIdentity(file);
    this.#database = open(file, openingMs);
    this.#files = new OpenFiles(file, before);
  }

  /** The database as it is open now. Throws after a file that could not be used was put in its place. */
  get database(): DatabaseSync {
    if (this.#database) return this.#database;
    throw unusable(this.file, 'the file that was put in its place cannot be opened');
  }

  /** To be called before a write: it would be lost with the file. */
  checkPresent(): void {
    if (this.#isRemoved)
      throw unusable(
        this.file,
        'its file was removed while the gateway runs; put it back, or restart the gateway to begin with a new one',
      );
    if (this.#isOverwriting) throw unusable(this.file, 'another program is writing into its file');
  }

  statement(text: string): StatementSync {
    const known = this.#statements.get(text);
    if (known) return known;
    const made = this.database.prepare(text);
    this.#statements.set(text, made);
    return made;
  }

  /** Looks at the files, at most five times a second. Returns whether the database was opened again: all in it can be different. */
  look(): boolean {
    if (performance.now() - this.#lookedAt < (this.#database ? lookMs : reopenMs)) return false;
    this.#lookedAt = performance.now();
    const change = this.#files.look();
    if (change === 'removed') {
      if (!this.#isRemoved)
        this.#notice('was removed while the gateway runs: nothing is written until it is back');
      this.#isRemoved = true;
      return false;
    }
    const wasRemoved = this.#isRemoved;
    this.#isRemoved = false;
    this.#isOverwriting = change === 'overwriting';
    if (this.#isOverwriting) return false;
    if (change === 'none' && this.#database) {
      if (wasRemoved) this.#notice('is back');
      return false;
    }
    this.#reopen(change === 'overwritten');
    return true;
  }

  close(): void {
    this.#statements.clear();
    if (this.#database?.isOpen) this.#database.close();
    this.#database = undefined;
  }

  #reopen(isOverwritten: boolean): void {
    const isFirst = this.#database !== undefined;
    const before = fileIdentity(this.file);
    if (isOverwritten) this.#files.dropLog();
    else this.#files.removeStaleLog();
    try {
      // What is only in a log that has lost its name goes into the database, if this is still the same one.
      this.#database?.exec('PRAGMA wal_checkpoint(PASSIVE)');
    } catch {
      // A database that was moved away needs none.
    }
    // SQLite leaves the files of a database alone that is not at its path any more.
    this.close();
    try {
      makePrivate(this.file);
      // SQLite would make a new store of it, as at a first start.
      if (statSync(this.file).size === 0) throw unusable(this.file, 'the file in its place is empty');
      this.#database = open(this.file, busyMs);
      this.#files = new OpenFiles(this.file, before);
      this.#notice('was replaced while the gateway runs: it was opened again, and holds from now on');
    } catch (error) {
      if (isFirst)
        this.#notice(`was replaced while the gateway runs, and cannot be used: ${(error as Error).message}`);
      throw error;
    }
  }

  #notice(what: string): void {
    this.#options.onNotice?.(`the store ${this.file} ${what}`);
  }
}

function open(file: string, waitMs: number): DatabaseSync {
  return translateSqliteError(file, () => {
    const { DatabaseSync } = sqlite();
    const database = new DatabaseSync(file);
    try {
      prepare(database, waitMs);
      return database;
    } catch (error) {
      database.close();
      throw error;
    }
  });
}

function prepare(database: DatabaseSync, waitMs: number): void {
  database.exec(`PRAGMA busy_timeout = ${waitMs}`);
  // FULL: a write is on the disk when its call returns. What is deleted (refresh tokens) is also overwritten.
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON');
  const [found] = database.prepare('PRAGMA integrity_check(1)').all();
  if (found?.integrity_check !== 'ok') throw new DamagedError(String(found?.integrity_check));
  const userVersion = Number(database.prepare('PRAGMA user_version').get()?.user_version);
  if (userVersion > layout) throw new NewerError();
  // One write now, so that a full or read-only disk shows before the first person signs in.
  database.exec(`
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS entries (
      name TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expiresAt INTEGER, PRIMARY KEY (name, key)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS expiring ON entries (expiresAt) WHERE expiresAt IS NOT NULL;
    CREATE TABLE IF NOT EXISTS changes (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO changes VALUES ('', 1) ON CONFLICT DO UPDATE SET count = count + 1;
    PRAGMA user_version = ${layout}`);
  // Earlier gateways made no such column. They can go on beside this one: what they write gets the default.
  const columns = database.prepare('SELECT name FROM pragma_table_info(?)').all('entries');
  if (!columns.some(({ name }) => name === 'version'))
    database.exec('ALTER TABLE entries ADD COLUMN version INTEGER NOT NULL DEFAULT 1');
  database.exec('COMMIT');
  database.exec(`PRAGMA busy_timeout = ${busyMs}`);
}
