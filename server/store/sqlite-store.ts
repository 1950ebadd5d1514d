import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { SeenInFile } from './sqlite-seen.ts';
import { DamagedError, NewerError, translateSqliteError, makePrivate, sqlite } from './sqlite.ts';
import type { PutOptions, Seen, Store, Table } from './store.ts';

export interface EmbeddedStoreOptions {
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Another process has written at most this long before watchers hear of it. */
const watchMs = 250;
const sweepMs = 60_000;
/** Writes of another process are short; this is for a disk that is slow. */
const busyMs = 5000;
const layout = 1;

/**
 * Opens the store of one machine: a file of SQLite, made with mode 0600 where there is none. Several processes may have
 * it open. Rejects with `STORE_UNAVAILABLE` when it can be read by others, is damaged, or cannot be written.
 */
export async function openEmbeddedStore(
  file: string,
  { now = Date.now }: EmbeddedStoreOptions = {},
): Promise<Store> {
  makePrivate(file);
  return translateSqliteError(file, () => {
    const { DatabaseSync } = sqlite();
    const database = new DatabaseSync(file);
    try {
      prepare(database);
      return new EmbeddedStore(database, file, now);
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
  const version = Number(database.prepare('PRAGMA user_version').get()?.user_version);
  if (version > layout) throw new NewerError();
  // One write now, so that a full or read-only disk shows before the first person signs in.
  database.exec(`
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS entries (
      name TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expiresAt INTEGER, PRIMARY KEY (name, key)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS expiring ON entries (expiresAt) WHERE expiresAt IS NOT NULL;
    CREATE TABLE IF NOT EXISTS changes (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO changes VALUES ('', 1) ON CONFLICT DO UPDATE SET count = count + 1;
    PRAGMA user_version = ${layout};
    COMMIT`);
}

interface Row {
  readonly value: string;
  readonly expiresAt: number | null;
}

class EmbeddedStore implements Store {
  readonly #database: DatabaseSync;
  readonly #file: string;
  readonly #now: () => number;
  readonly #statements = new Map<string, StatementSync>();
  readonly #watchers = new Map<Table, Set<() => void>>();
  /** How many changes of each table we know of, our own and those that watchers were told of. */
  readonly #known = new Map<string, number>();
  readonly #sweeping: NodeJS.Timeout;
  #watching: NodeJS.Timeout | undefined;
  #seen: SeenInFile | undefined;
  #dataVersion = 0;

  constructor(database: DatabaseSync, file: string, now: () => number) {
    this.#database = database;
    this.#file = file;
    this.#now = now;
    this.#sweep();
    this.#sweeping = setInterval(() => this.#sweepQuietly(), sweepMs).unref();
  }

  async get(table: Table, key: string): Promise<unknown> {
    return this.#run(() => this.#read(table, key)?.value);
  }

  async put(table: Table, key: string, value: unknown, options: PutOptions = {}): Promise<void> {
    this.#change(table, () => this.#write(table, key, value, options.expiresAt));
  }

  async add(table: Table, key: string, value: unknown, options: PutOptions = {}): Promise<boolean> {
    return this.#change(table, () => {
      if (this.#read(table, key)) return false;
      this.#write(table, key, value, options.expiresAt);
      return true;
    });
  }

  async take(table: Table, key: string): Promise<unknown> {
    return this.#change(table, () => {
      const found = this.#read(table, key);
      if (found) this.#remove(table, key);
      return found?.value;
    });
  }

  async update(
    table: Table,
    key: string,
    change: (value: unknown) => unknown,
    options: PutOptions = {},
  ): Promise<unknown> {
    return this.#change(table, () => {
      const found = this.#read(table, key);
      const value = change(found?.value);
      if (value === undefined) this.#remove(table, key);
      else this.#write(table, key, value, options.expiresAt ?? found?.expiresAt);
      return value;
    });
  }

  async delete(table: Table, key: string): Promise<void> {
    this.#change(table, () => this.#remove(table, key));
  }

  async list(table: Table): Promise<readonly (readonly [key: string, value: unknown])[]> {
    return this.#run(() => {
      const rows = this.#statement(
        'SELECT key, value FROM entries WHERE name = ? AND (expiresAt IS NULL OR expiresAt > ?) ORDER BY key',
      ).all(table, this.#now());
      return rows.map(({ key, value }) => [String(key), JSON.parse(String(value)) as unknown] as const);
    });
  }

  watch(table: Table, changed: () => void): () => void {
    const watchers = this.#watchers.get(table) ?? new Set();
    this.#watchers.set(table, watchers.add(changed));
    if (!this.#watching) {
      this.#dataVersion = this.#readDataVersion();
      for (const [name, count] of this.#counts()) this.#known.set(name, count);
      this.#watching = setInterval(() => this.#look(), watchMs).unref();
    }
    return () => void watchers.delete(changed);
  }

  async seen(): Promise<Seen> {
    // Of several processes that start at once, one may put a new file in the place of a damaged one; the others wait.
    return this.#run(() => {
      this.#statement('BEGIN IMMEDIATE').run();
      try {
        this.#seen ??= new SeenInFile(`${this.#file}-seen`, this.#now);
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

  #read(table: Table, key: string): { value: unknown; expiresAt: number | undefined } | undefined {
    const row = this.#statement('SELECT value, expiresAt FROM entries WHERE name = ? AND key = ?').get(
      table,
      key,
    ) as unknown as Row | undefined;
    if (!row || (row.expiresAt !== null && row.expiresAt <= this.#now())) return undefined;
    return { value: JSON.parse(row.value) as unknown, expiresAt: row.expiresAt ?? undefined };
  }

  #write(table: Table, key: string, value: unknown, expiresAt: number | undefined): void {
    this.#statement(
      'INSERT INTO entries (name, key, value, expiresAt) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, expiresAt = excluded.expiresAt',
    ).run(table, key, JSON.stringify(value), expiresAt === undefined ? null : Math.ceil(expiresAt));
  }

  #remove(table: Table, key: string): void {
    this.#statement('DELETE FROM entries WHERE name = ? AND key = ?').run(table, key);
  }

  /** Runs a change in one transaction: all of it is on the disk, or nothing. */
  #change<T>(table: Table, change: () => T): T {
    return this.#run(() => {
      this.#statement('BEGIN IMMEDIATE').run();
      try {
        const result = change();
        const row = this.#statement(
          'INSERT INTO changes VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count',
        ).get(table);
        this.#statement('COMMIT').run();
        const count = Number(row?.count);
        // Otherwise another process has changed it too, and the next look shall see that.
        if ((this.#known.get(table) ?? 0) === count - 1) this.#known.set(table, count);
        return result;
      } catch (error) {
        if (this.#database.isTransaction) this.#statement('ROLLBACK').run();
        throw error;
      }
    });
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

  /** The version counts up when another process has written, and only then. */
  #look(): void {
    try {
      const dataVersion = this.#readDataVersion();
      if (dataVersion === this.#dataVersion) return;
      this.#dataVersion = dataVersion;
      for (const [name, count] of this.#counts()) {
        if (this.#known.get(name) === count) continue;
        this.#known.set(name, count);
        for (const changed of this.#watchers.get(name as Table) ?? []) changed();
      }
    } catch {
      // A file that cannot be read now is looked at again in a moment; who needs it hears of it from its own call.
    }
  }

  #sweep(): void {
    this.#statement('DELETE FROM entries WHERE expiresAt <= ?').run(this.#now());
  }

  #sweepQuietly(): void {
    try {
      this.#sweep();
    } catch {
      // What has expired is not given out in any case.
    }
  }
}
