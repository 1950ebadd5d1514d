import { SqliteConnection } from './sqlite-connection.ts';
import type { ConnectionOptions } from './sqlite-connection.ts';
import { locationOf } from './sqlite-layout.ts';
import { SqliteSeen } from './sqlite-seen.ts';
import { translateSqliteError } from './sqlite.ts';
import type { Seen, TableName } from './store.ts';

/** A row as it lies in the file. */
export interface StoredRow {
  /** JSON. */
  readonly value: string;
  readonly version: number;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number | null;
}

export interface SqliteRowsOptions extends ConnectionOptions {
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/**
 * The rows in a file of SQLite. Every call holds its thread until it is over: a write for a flush of the disk, a read for
 * microseconds. All methods throw `STORE_UNAVAILABLE`.
 */
export class SqliteRows {
  readonly #connection: SqliteConnection;
  readonly #now: () => number;
  /** How many changes under each name are known here: those of this process, and those that `poll` has reported. */
  readonly #known = new Map<string, number>();
  #seen: SqliteSeen | undefined;
  #dataVersion = 0;

  constructor(file: string, { now = Date.now, ...options }: SqliteRowsOptions = {}) {
    this.#connection = new SqliteConnection(file, options);
    this.#now = now;
    this.#startPolling();
    this.sweep();
  }

  read(table: TableName, key: string): StoredRow | undefined {
    return this.#run(() => this.#read(table, key));
  }

  /** Of the rows that have not expired, in the order of their keys. */
  list(table: TableName): readonly (readonly [key: string, row: StoredRow])[] {
    const { name, prefix } = locationOf(table);
    return this.#run(() => {
      const rows = this.#connection
        .statement(
          'SELECT key, value, version, expiresAt FROM entries WHERE name = ? AND substr(key, 1, ?) = ? AND (expiresAt IS NULL OR expiresAt > ?) ORDER BY key',
        )
        .all(name, prefix.length, prefix, this.#now()) as unknown as readonly (StoredRow & { key: string })[];
      return rows.map(({ key, ...row }) => [key.slice(prefix.length), row] as const);
    });
  }

  /** Writes the row if the present one is still `expected`, durably and in one step. Returns whether it was. */
  replace(
    table: TableName,
    key: string,
    expected: StoredRow | undefined,
    next: StoredRow | undefined,
  ): boolean {
    this.#connection.checkPresent();
    return this.#run(() => {
      this.#connection.statement('BEGIN IMMEDIATE').run();
      try {
        if (!isSame(this.#read(table, key), expected)) {
          this.#connection.statement('ROLLBACK').run();
          return false;
        }
        this.#commit(table, () => this.#write(table, key, next));
        return true;
      } catch (error) {
        this.#rollBack();
        throw error;
      }
    });
  }

  /** Writes nothing of importance: whether a write succeeds now. */
  probe(): void {
    this.#connection.checkPresent();
    this.#run(() => this.#connection.statement("UPDATE changes SET count = count + 1 WHERE name = ''").run());
  }

  /** Whether another process holds the lock for writes; takes it for a moment, and writes nothing. */
  isLocked(): boolean {
    try {
      this.#connection.statement('BEGIN IMMEDIATE').run();
      this.#connection.statement('ROLLBACK').run();
      return false;
    } catch (error) {
      return isBusy(error);
    }
  }

  /** Throws when the file has been removed. */
  checkPresent(): void {
    this.#connection.checkPresent();
  }

  seen(): Seen {
    if (this.#seen) return this.#seen;
    // Of several processes that start at once, one can put a new file in the place of a damaged one; the others wait.
    return this.#run(() => {
      this.#connection.statement('BEGIN IMMEDIATE').run();
      try {
        return (this.#seen = new SqliteSeen(`${this.#connection.file}-seen`, this.#now));
      } finally {
        this.#rollBack();
      }
    });
  }

  /**
   * The names under which another process has changed something since the last call; undefined: the whole file is another
   * one. SQLite's data version counts up when another process has written, and only then.
   */
  poll(): readonly string[] | undefined {
    const isAnother = this.#connection.look();
    if (this.#seen && !this.#seen.isCurrent()) {
      this.#seen.close();
      this.#seen = undefined;
    }
    if (isAnother) {
      this.#startPolling();
      return undefined;
    }
    return this.#run(() => {
      const dataVersion = this.#readDataVersion();
      if (dataVersion === this.#dataVersion) return [];
      this.#dataVersion = dataVersion;
      const changed = this.#counts().filter(([name, count]) => this.#known.get(name) !== count);
      for (const [name, count] of changed) this.#known.set(name, count);
      return changed.map(([name]) => name);
    });
  }

  sweep(): void {
    this.#connection.checkPresent();
    this.#run(() => this.#connection.statement('DELETE FROM entries WHERE expiresAt <= ?').run(this.#now()));
  }

  close(): void {
    this.#seen?.close();
    this.#seen = undefined;
    this.#connection.close();
  }

  #read(table: TableName, key: string): StoredRow | undefined {
    const { name, prefix } = locationOf(table);
    const row = this.#connection
      .statement('SELECT value, version, expiresAt FROM entries WHERE name = ? AND key = ?')
      .get(name, prefix + key) as unknown as StoredRow | undefined;
    return row && (row.expiresAt === null || row.expiresAt > this.#now()) ? row : undefined;
  }

  #write(table: TableName, key: string, row: StoredRow | undefined): void {
    const { name, prefix } = locationOf(table);
    if (!row) {
      this.#connection.statement('DELETE FROM entries WHERE name = ? AND key = ?').run(name, prefix + key);
      return;
    }
    this.#connection
      .statement(
        'INSERT INTO entries (name, key, value, version, expiresAt) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, version = excluded.version, expiresAt = excluded.expiresAt',
      )
      .run(name, prefix + key, row.value, row.version, row.expiresAt);
  }

  /** Ends the transaction with a write to a table, which it counts for the watchers of other processes. */
  #commit(table: TableName, write: () => void): void {
    const { name } = locationOf(table);
    write();
    const row = this.#connection
      .statement(
        'INSERT INTO changes VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count',
      )
      .get(name);
    this.#connection.statement('COMMIT').run();
    const count = Number(row?.count);
    // Otherwise another process has changed it too, and the next poll must see that.
    if ((this.#known.get(name) ?? 0) === count - 1) this.#known.set(name, count);
  }

  #rollBack(): void {
    if (this.#connection.database.isTransaction) this.#connection.statement('ROLLBACK').run();
  }

  #run<T>(work: () => T): T {
    return translateSqliteError(this.#connection.file, work);
  }

  #startPolling(): void {
    this.#dataVersion = this.#readDataVersion();
    for (const [name, count] of this.#counts()) this.#known.set(name, count);
  }

  #readDataVersion(): number {
    return Number(this.#connection.statement('PRAGMA data_version').get()?.data_version);
  }

  #counts(): readonly (readonly [name: string, count: number])[] {
    const rows = this.#connection.statement('SELECT name, count FROM changes').all();
    return rows.map(({ name, count }) => [String(name), Number(count)] as const);
  }
}

function isSame(one: StoredRow | undefined, other: StoredRow | undefined): boolean {
  return (
    one?.value === other?.value && one?.version === other?.version && one?.expiresAt === other?.expiresAt
  );
}

/** SQLITE_BUSY and SQLITE_LOCKED (https://sqlite.org/rescode.html), as SQLite or as `translateSqliteError` throws it. */
export function isBusy(error: unknown): boolean {
  const { errcode, cause } = error as { errcode?: unknown; cause?: unknown };
  if (typeof errcode === 'number') return [5, 6].includes(errcode & 0xff);
  return typeof cause === 'object' && cause !== null && isBusy(cause);
}
