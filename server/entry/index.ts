import type { EntryName } from '../config/config.ts';
import { connectTcpEntry } from './connect-tcp.ts';
import { connectEntry } from './connect.ts';
import type { RequestEntry } from './entry.ts';
import { relayEntry } from './relay.ts';
import { webSocketEntry } from './websocket.ts';
import type { Relays } from '../tunnel/relays.ts';

/** Every entry there is; a new one is its own file and a line here. */
export function requestEntries(
  prefix: string,
  names: readonly EntryName[],
  relays: () => Relays,
): readonly RequestEntry[] {
  const all: readonly RequestEntry[] = [
    relayEntry(prefix, relays),
    webSocketEntry(prefix),
    connectTcpEntry(prefix),
    connectEntry(),
  ];
  return all.filter(({ name }) => (names as readonly string[]).includes(name));
}
