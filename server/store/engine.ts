import type { Seen, TableName } from './store.ts';

/** A row as it is stored. */
export interface Row {
  /** JSON, which nothing has checked yet; undefined where it is not even that. */
  readonly value: unknown;
  /** The version of the schema that it was written with. */
  readonly version: number;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number | undefined;
}

/**
 * What keeps the rows of a store: a file on this machine now; a database over the network can be another. It knows nothing
 * of what is in a row. Expired rows do not exist for its callers. All methods reject with `STORE_UNAVAILABLE`.
 */
export interface StoreEngine {
  /** See `Store.failure`. */
  readonly failure?: string | undefined;
  read(table: TableName, key: string): Promise<Row | undefined>;
  /**
   * Replaces a row by what `change` makes of it, `undefined` for none, durably and in one step; writes nothing when `change`
   * returns the row that it was given. An engine without transactions reads the row with its revision, calls `change`, and
   * writes on the condition that the revision is the same; if it is not, it begins again. An error that `change` throws
   * leaves the row as it was, and rejects.
   */
  change(table: TableName, key: string, change: (row: Row | undefined) => Row | undefined): Promise<void>;
  /** In the order of their keys. */
  list(table: TableName): Promise<readonly (readonly [key: string, row: Row])[]>;
  /** See `Table.watch`. */
  watch(table: TableName, onChange: () => void): () => void;
  seen(): Promise<Seen>;
  close(): Promise<void>;
}
