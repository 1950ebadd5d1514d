import type { Config } from '../config/config.ts';
import { openSqliteStore } from './sqlite-store.ts';
import type { StoreOptions } from './sqlite-store.ts';
import type { Store } from './store.ts';

/** Opens the store that the configuration names. SQLite is the only engine. Rejects with `STORE_UNAVAILABLE`. */
export function openStore({ file }: Config['store'], options?: StoreOptions): Promise<Store> {
  return openSqliteStore(file, options);
}
