import type { EntryName } from '../../protocol/entries.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';
import { connectTcpEntry } from './connect-tcp.ts';
import { connectEntry } from './connect.ts';
import type { PlainEntry, RequestEntry } from './entry.ts';
import { httpEntry } from './http.ts';
import type { HttpEntryParts } from './http.ts';
import { relayEntry } from './relay.ts';
import { webSocketEntry } from './websocket.ts';

/** The entries that are reached by an upgrade or a CONNECT; a new one is a file of its own and a line here. */
export function requestEntries(
  prefix: string,
  names: readonly EntryName[],
  tunnels: () => ResumableTunnels,
): readonly RequestEntry[] {
  const all: readonly RequestEntry[] = [
    relayEntry(prefix, tunnels),
    webSocketEntry(prefix),
    connectTcpEntry(prefix),
    connectEntry(),
  ];
  return all.filter(({ name }) => (names as readonly string[]).includes(name));
}

/** The entries that need no upgrade. */
export function plainEntries(
  prefix: string,
  names: readonly EntryName[],
  parts: HttpEntryParts,
): readonly PlainEntry[] {
  return names.includes('http') ? [httpEntry(prefix, parts)] : [];
}
