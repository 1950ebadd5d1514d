import type { EntryName } from '../../protocol/entries.ts';
import { connectTcpEntry } from './connect-tcp.ts';
import { connectEntry } from './connect.ts';
import type { PlainEntry, RequestEntry } from './entry.ts';
import type { HttpCarriers } from './http-carrier.ts';
import { httpEntry } from './http.ts';
import type { PeerCarriers } from './http.ts';
import { relayEntry } from './relay.ts';
import { webSocketEntry } from './websocket.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';

/** Every entry that is reached by an upgrade or a CONNECT; a new one is its own file and a line here. */
export function requestEntries(
  prefix: string,
  names: readonly EntryName[],
  relays: () => ResumableTunnels,
): readonly RequestEntry[] {
  const all: readonly RequestEntry[] = [
    relayEntry(prefix, relays),
    webSocketEntry(prefix),
    connectTcpEntry(prefix),
    connectEntry(),
  ];
  return all.filter(({ name }) => (names as readonly string[]).includes(name));
}

export interface PlainEntryParts {
  readonly relays: () => ResumableTunnels;
  readonly carriers?: HttpCarriers;
  readonly peers?: PeerCarriers | undefined;
}

/** Those that need no upgrade. */
export function plainEntries(
  prefix: string,
  names: readonly EntryName[],
  { relays, carriers, peers: elsewhere }: PlainEntryParts,
): readonly PlainEntry[] {
  return names.includes('http') ? [httpEntry(prefix, relays, carriers, elsewhere)] : [];
}
