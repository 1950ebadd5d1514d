import type { z } from 'zod';

/** The tables of the store. Those named `oidc.…` are the models of oidc-provider and their indexes. */
export type TableName =
  | 'accounts'
  | 'revocations'
  | 'tickets'
  | 'signingKeys'
  | 'issuerKeys'
  | 'gatewayKey'
  | 'instances'
  | 'loginAttempts'
  | 'deviceCodeAttempts'
  | 'signIn'
  | 'signInsOfSubject'
  | 'signInsOfOrigin'
  | 'upstreamIdentity'
  | 'upstreamRefresh'
  | 'upstreamLogout'
  | 'pendingLogin'
  | 'loginResult'
  | 'rowsOfGrant'
  | `oidc.${string}`;

/** What must survive a restart. A write is durable when its promise resolves; a torn write is as if it had not been made. */
export interface Store {
  /** Why nothing can be written now, or could when that was last tried; undefined: it works. */
  readonly failure: string | undefined;
  /**
   * A table, whose rows `schema` checks as they are read. The schema must not transform: what it takes is what it gives.
   * Fields that it does not know may be missing from what it gives; `update` writes them back.
   */
  table<T>(name: TableName, schema: z.ZodType<T>, options?: TableOptions): Table<T>;
  /** The ids that are valid once, the same for all processes that have this store open; `close` closes it too. */
  seen(): Promise<Seen>;
  close(): Promise<void>;
}

export interface TableOptions {
  /** The version of the schema, which each row that is written carries; the default is 1, which is also that of rows without one. */
  readonly version?: number;
  /** Makes the value of an earlier version into one of this version. */
  readonly upgrade?: (value: unknown, version: number) => unknown;
}

export interface PutOptions {
  /** Milliseconds since the epoch; the row is deleted then. Absent: it stays. */
  readonly expiresAt?: number;
}

/**
 * A map from a key to a JSON value of one type. Every method rejects with `STORE_UNAVAILABLE` when the store cannot be
 * used, and when a row is not what the schema says.
 */
export interface Table<T> {
  get(key: string): Promise<T | undefined>;
  /** Writes the row, in place of the one that may be there. */
  put(key: string, value: T, options?: PutOptions): Promise<void>;
  /** Writes only if the key is free; resolves to whether it was. Of several callers at once, one wins. */
  add(key: string, value: T, options?: PutOptions): Promise<boolean>;
  /** Gives the value and removes it, for what is valid once. Of several callers at once, one gets it. */
  take(key: string): Promise<T | undefined>;
  /**
   * Replaces the value by what `change` makes of it, in one step; `undefined` removes it. Resolves to the new value. The
   * row keeps its expiry unless `options` has one, the fields that the schema does not know, and the version of a newer
   * gateway. `change` is called again when the row was changed in between (compare and set): it must be synchronous, and
   * anything it does besides returning must be right when only its last call counts.
   */
  update(
    key: string,
    change: (value: T | undefined) => T | undefined,
    options?: PutOptions,
  ): Promise<T | undefined>;
  delete(key: string): Promise<void>;
  /**
   * All rows, in the order of their keys. With `onDamaged`, which gets an error that names the row, those that cannot be
   * read are left out; without, one of them rejects.
   */
  list(
    onDamaged?: (error: Error, key: string) => void,
  ): Promise<readonly (readonly [key: string, value: T])[]>;
  /**
   * Calls `onChange` soon (a quarter of a second) after another process has changed the table; a change of another table
   * can cause a call too. Returns the function that stops it.
   */
  watch(onChange: () => void): () => void;
}

/**
 * Ids that are valid once, in a memory that costs next to nothing: it outlives its process, and not a crash of the
 * machine.
 */
export interface Seen {
  /**
   * Remembers an id until `expiresAt` (milliseconds since the epoch) and resolves to whether it is new. Of several callers
   * at once, in all processes, one gets true. Rejects with `STORE_UNAVAILABLE` when the memory is full or cannot be
   * written: then it is unknown whether the id is new.
   */
  add(id: string, expiresAt: number): Promise<boolean>;
}
