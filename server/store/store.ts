/** The tables of the store, each a map from a key to a JSON value. */
export type Table = 'accounts' | 'oauth' | 'revocations' | 'tickets' | 'signInAttempts' | 'signingKeys';

export interface PutOptions {
  /** Milliseconds since the epoch; the value is gone then. Absent: it stays. */
  readonly expiresAt?: number;
}

/**
 * What must survive a restart. Values are plain JSON. A write is durable when its call returns; a torn write is as if
 * it had not been made. Calls are synchronous and short (a local file); a store elsewhere will make them promises, so
 * callers await them.
 */
export interface Store {
  get(table: Table, key: string): Promise<unknown>;
  put(table: Table, key: string, value: unknown, options?: PutOptions): Promise<void>;
  /** Writes only if the key is free; resolves to whether it was. One caller of many wins. */
  add(table: Table, key: string, value: unknown, options?: PutOptions): Promise<boolean>;
  /** Gives the value and removes it, for what may be used once. One caller of many gets it. */
  take(table: Table, key: string): Promise<unknown>;
  /** Replaces the value by what `change` makes of it, in one step; `undefined` removes it. Resolves to the new value. */
  update(
    table: Table,
    key: string,
    change: (value: unknown) => unknown,
    options?: PutOptions,
  ): Promise<unknown>;
  delete(table: Table, key: string): Promise<void>;
  list(table: Table): Promise<readonly (readonly [key: string, value: unknown])[]>;
  /** Called soon (a quarter of a second) after another process has changed the table. Returns what stops it. */
  watch(table: Table, changed: () => void): () => void;
  /** The memory of what may come once, the same for all who have this store open; `close` closes it too. */
  seen(): Promise<Seen>;
  close(): Promise<void>;
}

/**
 * Ids that may come once, of a memory that costs next to nothing: it outlives its process, and not a crash of the
 * machine. Synchronous: it is asked at every open.
 */
export interface Seen {
  /**
   * Remembers an id until `until` (milliseconds since the epoch) and tells whether it is new. One caller of many hears
   * so. Throws `STORE_UNAVAILABLE` when it is full or cannot be written: then nobody knows.
   */
  add(id: string, until: number): boolean;
}
