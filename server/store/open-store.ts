import { openSqliteEngine } from './sqlite-engine.ts';
import type { Store } from './store.ts';
import { TypedStore } from './typed-store.ts';

/** The part of the configuration that names the store. */
export interface StoreSettings {
  readonly file: string;
}

export interface StoreOptions {
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Opens the store that the configuration names; SQLite is the only engine. Rejects with `STORE_UNAVAILABLE`. */
export function openStore({ file }: StoreSettings, options?: StoreOptions): Promise<Store> {
  return openSqliteStore(file, options);
}

/** Opens a store in a file of this machine. Rejects with `STORE_UNAVAILABLE`. */
export async function openSqliteStore(file: string, { now }: StoreOptions = {}): Promise<Store> {
  return new TypedStore(openSqliteEngine(file, now));
}
