import type { EntryName } from '../config/config.ts';
import { connectTcpEntry } from './connect-tcp.ts';
import { connectEntry } from './connect.ts';
import type { RequestEntry } from './entry.ts';
import { webSocketEntry } from './websocket.ts';

/** Every entry there is; a new one is its own file and a line here. */
export function requestEntries(prefix: string, names: readonly EntryName[]): readonly RequestEntry[] {
  const all: readonly RequestEntry[] = [webSocketEntry(prefix), connectTcpEntry(prefix), connectEntry()];
  return all.filter(({ name }) => (names as readonly string[]).includes(name));
}
