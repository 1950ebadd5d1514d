import type { Row, StoreEngine } from '../../../server/store/engine.ts';
import type { Seen, TableName } from '../../../server/store/store.ts';

/**
 * An engine without transactions: each read and each write is a message of its own, as with a database over the network,
 * and a change is a compare-and-set by the revision of the row. `conflicts` counts the writes that came too late.
 */
export class CompareAndSetEngine implements StoreEngine {
  readonly #rows = new Map<string, { readonly text: string; readonly revision: number }>();
  readonly #now: () => number;
  #revision = 0;
  conflicts = 0;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  async read(table: TableName, key: string): Promise<Row | undefined> {
    return (await this.#fetch(table, key)).row;
  }

  async change(
    table: TableName,
    key: string,
    change: (row: Row | undefined) => Row | undefined,
  ): Promise<void> {
    for (;;) {
      const { row, revision } = await this.#fetch(table, key);
      const next = change(row);
      if (next === row || (await this.#compareAndSet(table, key, next, revision))) return;
      this.conflicts += 1;
    }
  }

  async list(table: TableName): Promise<readonly (readonly [key: string, row: Row])[]> {
    const names = [...this.#rows.keys()].filter((name) => name.startsWith(`${table}/`)).toSorted();
    const rows = await Promise.all(names.map((name) => this.read(table, name.slice(table.length + 1))));
    return names.flatMap((name, at) => (rows[at] ? [[name.slice(table.length + 1), rows[at]] as const] : []));
  }

  watch(): () => void {
    return () => {};
  }

  async seen(): Promise<Seen> {
    throw new Error('not here');
  }

  async close(): Promise<void> {}

  async #fetch(
    table: TableName,
    key: string,
  ): Promise<{ readonly row: Row | undefined; readonly revision: number }> {
    await new Promise(setImmediate);
    const stored = this.#rows.get(`${table}/${key}`);
    if (!stored) return { row: undefined, revision: 0 };
    const row: Row = { expiresAt: undefined, ...(JSON.parse(stored.text) as Omit<Row, 'expiresAt'>) };
    const isExpired = row.expiresAt !== undefined && row.expiresAt <= this.#now();
    return { row: isExpired ? undefined : row, revision: stored.revision };
  }

  async #compareAndSet(
    table: TableName,
    key: string,
    row: Row | undefined,
    revision: number,
  ): Promise<boolean> {
    await new Promise(setImmediate);
    const name = `${table}/${key}`;
    if ((this.#rows.get(name)?.revision ?? 0) !== revision) return false;
    if (row) this.#rows.set(name, { text: JSON.stringify(row), revision: ++this.#revision });
    else this.#rows.delete(name);
    return true;
  }
}
