import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { Row, StoreEngine } from './engine.ts';
import { locationOf } from './sqlite-layout.ts';
import { SqliteSeen } from './sqlite-seen.ts';
import { DamagedError, NewerError, makePrivate, sqlite, translateSqliteError } from './sqlite.ts';
import type { Seen, TableName } from './store.ts';

/** The longest time between a write of another process and the call of the watchers. */
const watchMs = 250;
const sweepMs = 60_000;
/** Writes of another process are short; this is for a slow disk. */
const busyMs = 5000;
/** The layout of the file; a higher one is of a later version. */
export const layout = 1;

/**
 * Opens the engine of one machine: a file of SQLite, made with mode 0600 where there is none. Several processes can have it
 * open. Throws `STORE_UNAVAILABLE` when others can read it, it is damaged, or it cannot be written. `now` is the wall
 * clock, in milliseconds since 1970.
 */
export function openSqliteEngine(file: string, now: () => number = Date.now): StoreEngine {
  makePrivate(file);
  return translateSqliteError(file, () => {
    const { DatabaseSync } = sqlite();
    const database = new DatabaseSync(file);
    try {
      prepare(database);
      return new SqliteEngine(database, file, now);
    } catch (error) {
      database.close();
      throw error;
    }
  });
}

function prepare(database: DatabaseSync): void {
  database.exec(`PRAGMA busy_timeout = ${busyMs}`);
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
}

/**
 * A write holds the event loop for a flush of the disk; a read takes microseconds. Both are over when the call returns, so
 * that the methods are asynchronous by their type only.
 */
class SqliteEngine implements StoreEngine {
  readonly #database: DatabaseSync;
  readonly #file: string;
  readonly #now: () => number;
  readonly #statements = new Map<string, StatementSync>();
  /** By the name in SQLite, which several tables can share. */
  readonly #watchers = new Map<string, Set<() => void>>();
  /** How many changes under each name are known here: those of this process, and those that watchers were called for. */
  readonly #known = new Map<string, number>();
  readonly #sweeping: NodeJS.Timeout;
  #watching: NodeJS.Timeout | undefined;
  #seen: SqliteSeen | undefined;
  #dataVersion = 0;

  constructor(database: DatabaseSync, file: string, now: () => number) {
    this.#database = database;
    this.#file = file;
    this.#now = now;
    this.#sweep();
    this.#sweeping = setInterval(() => this.#sweepQuietly(), sweepMs).unref();
  }

  async read(table: TableName, key: string): Promise<Row | undefined> {
    return this.#run(() => this.#read(table, key));
  }

  /** One transaction: all of it is on the disk, or nothing. */
  async change(
    table: TableName,
    key: string,
    change: (row: Row | undefined) => Row | undefined,
  ): Promise<void> {
    this.#run(() => {
      this.#statement('BEGIN IMMEDIATE').run();
      try {
        const before = this.#read(table, key);
        const after = change(before);
        if (after === before) this.#statement('ROLLBACK').run();
        else this.#commit(table, () => this.#write(table, key, after));
      } catch (error) {
        if (this.#database.isTransaction) this.#statement('ROLLBACK').run();
        throw error;
      }
    });
  }

  async list(table: TableName): Promise<readonly (readonly [key: string, row: Row])[]> {
    const { name, prefix } = locationOf(table);
    return this.#run(() => {
      const rows = this.#statement(
        'SELECT key, value, version, expiresAt FROM entries WHERE name = ? AND substr(key, 1, ?) = ? AND (expiresAt IS NULL OR expiresAt > ?) ORDER BY key',
      ).all(name, prefix.length, prefix, this.#now()) as unknown as readonly (StoredRow & { key: string })[];
      return rows.map((row) => [row.key.slice(prefix.length), rowOf(row)] as const);
    });
  }

  watch(table: TableName, onChange: () => void): () => void {
    const { name } = locationOf(table);
    const watchers = this.#watchers.get(name) ?? new Set();
    this.#watchers.set(name, watchers.add(onChange));
    if (!this.#watching) {
      this.#dataVersion = this.#readDataVersion();
      for (const [each, count] of this.#counts()) this.#known.set(each, count);
      this.#watching = setInterval(() => this.#poll(), watchMs).unref();
    }
    return () => void watchers.delete(onChange);
  }

  async seen(): Promise<Seen> {
    // Of several processes that start at once, one can put a new file in the place of a damaged one; the others wait.
    return this.#run(() => {
      this.#statement('BEGIN IMMEDIATE').run();
      try {
        this.#seen ??= new SqliteSeen(`${this.#file}-seen`, this.#now);
        return this.#seen;
      } finally {
        this.#statement('ROLLBACK').run();
      }
    });
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeping);
    clearInterval(this.#watching);
    this.#seen?.close();
    if (this.#database.isOpen) this.#database.close();
  }

  #read(table: TableName, key: string): Row | undefined {
    const { name, prefix } = locationOf(table);
    const row = this.#statement(
      'SELECT value, version, expiresAt FROM entries WHERE name = ? AND key = ?',
    ).get(name, prefix + key) as unknown as StoredRow | undefined;
    return row && (row.expiresAt === null || row.expiresAt > this.#now()) ? rowOf(row) : undefined;
  }

  #write(table: TableName, key: string, row: Row | undefined): void {
    const { name, prefix } = locationOf(table);
    if (!row) {
      this.#statement('DELETE FROM entries WHERE name = ? AND key = ?').run(name, prefix + key);
      return;
    }
    const { value, version, expiresAt } = row;
    this.#statement(
      'INSERT INTO entries (name, key, value, version, expiresAt) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, version = excluded.version, expiresAt = excluded.expiresAt',
    ).run(
      name,
      prefix + key,
      JSON.stringify(value),
      version,
      expiresAt === undefined ? null : Math.ceil(expiresAt),
    );
  }

  /** Ends the transaction with a write to a table, which it counts for the watchers of other processes. */
  #commit(table: TableName, write: () => void): void {
    const { name } = locationOf(table);
    write();
    const row = this.#statement(
      'INSERT INTO changes VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count',
    ).get(name);
    this.#statement('COMMIT').run();
    const count = Number(row?.count);
    // Otherwise another process has changed it too, and the next poll must see that.
    if ((this.#known.get(name) ?? 0) === count - 1) this.#known.set(name, count);
  }

  #run<T>(work: () => T): T {
    return translateSqliteError(this.#file, work);
  }

  #statement(text: string): StatementSync {
    const known = this.#statements.get(text);
    if (known) return known;
    const made = this.#database.prepare(text);
    this.#statements.set(text, made);
    return made;
  }

  #readDataVersion(): number {
    return Number(this.#statement('PRAGMA data_version').get()?.data_version);
  }

  #counts(): readonly (readonly [name: string, count: number])[] {
    const rows = this.#statement('SELECT name, count FROM changes').all();
    return rows.map(({ name, count }) => [String(name), Number(count)] as const);
  }

  /** SQLite's data version counts up when another process has written, and only then. */
  #poll(): void {
    try {
      const dataVersion = this.#readDataVersion();
      if (dataVersion === this.#dataVersion) return;
      this.#dataVersion = dataVersion;
      for (const [name, count] of this.#counts()) {
        if (this.#known.get(name) === count) continue;
        this.#known.set(name, count);
        for (const onChange of this.#watchers.get(name) ?? []) onChange();
      }
    } catch {
      // A file that cannot be read now is polled again in a moment; a caller that needs it gets the error of its own call.
    }
  }

  #sweep(): void {
    this.#statement('DELETE FROM entries WHERE expiresAt <= ?').run(this.#now());
  }

  #sweepQuietly(): void {
    try {
      this.#sweep();
    } catch {
      // Expired rows are not given out in any case.
    }
  }
}

interface StoredRow {
  readonly value: string;
  readonly version: number;
  readonly expiresAt: number | null;
}

function rowOf({ value, version, expiresAt }: StoredRow): Row {
  return { value: JSON.parse(value) as unknown, version, expiresAt: expiresAt ?? undefined };
}
