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
  /** Called with a sentence for the log: the file was replaced under the running process, or cannot be written. */
  readonly onNotice?: (text: string) => void;
}

/** Opens the store that the configuration names; SQLite is the only engine. Rejects with `STORE_UNAVAILABLE`. */
export function openStore({ file }: StoreSettings, options?: StoreOptions): Promise<Store> {
  return openSqliteStore(file, options);
}

/** Opens a store in a file of this machine. Rejects with `STORE_UNAVAILABLE`. */
export async function openSqliteStore(file: string, { now, onNotice }: StoreOptions = {}): Promise<Store> {
  const engine = openSqliteEngine(file, now, { onNotice });
  try {
    await engine.opened;
  } catch (error) {
    await engine.close();
    throw error;
  }
  return new TypedStore(engine);
}
