import { relayV1Subprotocol } from './relay-v1.ts';

/** Facts about an entry protocol, one of the ways in which a client can ask the gateway for a tunnel. */
interface EntryFacts {
  readonly method: 'GET' | 'CONNECT' | 'POST';
  /** The token of its field `Upgrade`; absent: it needs no upgrade. */
  readonly upgrade?: string;
  /** The field `Sec-WebSocket-Protocol`, where the gateway selects one. */
  readonly subprotocol?: string;
  /**
   * The path of a request below the gateway's URL, with `{host}` and `{port}` in the place of the target's. Absent: the
   * target is in the request line (CONNECT), or the entry has routes of its own.
   */
  readonly path?: string;
  /** Other paths of its upgrades, as patterns of routes: without `Upgrade`, they are answered 426. */
  readonly otherPaths?: readonly string[];
  /** Whether its tunnels outlive their connections. */
  readonly resumable: boolean;
  /** Whether a request can carry the proof for a token bound to a key (RFC 9449). */
  readonly carriesProof: boolean;
}

/** The entry protocols. */
export const entries = {
  relay: {
    method: 'GET',
    upgrade: 'websocket',
    subprotocol: relayV1Subprotocol,
    path: 'v4/connect?host={host}&port={port}',
    otherPaths: ['v4/reconnect'],
    resumable: true,
    carriesProof: true,
  },
  websocket: {
    method: 'GET',
    upgrade: 'websocket',
    path: 'tcp/{host}/{port}/',
    otherPaths: ['proxy/*'],
    resumable: false,
    carriesProof: true,
  },
  'connect-tcp': {
    method: 'GET',
    upgrade: 'connect-tcp',
    path: 'tcp/{host}/{port}/',
    resumable: false,
    carriesProof: true,
  },
  connect: { method: 'CONNECT', resumable: false, carriesProof: false },
  http: { method: 'POST', resumable: true, carriesProof: true },
} as const satisfies Readonly<Record<string, EntryFacts>>;

export type EntryName = keyof typeof entries;

export const entryNames = Object.keys(entries) as readonly EntryName[];

/** The entries in the order in which clients try them: those whose tunnels outlive their connections come first. */
export const entriesByPreference: readonly EntryName[] = [true, false].flatMap((resumable) =>
  entryNames.filter((name) => entries[name].resumable === resumable),
);

/** Whether `text` names an entry. */
export function isEntryName(text: unknown): text is EntryName {
  return typeof text === 'string' && Object.hasOwn(entries, text);
}

/** The row of an entry. */
export function entryFacts(name: EntryName): EntryFacts {
  return entries[name];
}

/** The `Upgrade` tokens of all entries, each once. */
export const upgradeTokens: readonly string[] = [
  ...new Set(entryNames.flatMap((name) => entryFacts(name).upgrade ?? [])),
];

/** The paths below the gateway's URL that belong to upgrades, as patterns of routes (`tcp/*`), each once. */
export const upgradePaths: readonly string[] = [
  ...new Set(
    entryNames.flatMap((name) => {
      const { upgrade, path, otherPaths = [] } = entryFacts(name);
      return upgrade === undefined || path === undefined ? [] : [routePattern(path), ...otherPaths];
    }),
  ),
];

function routePattern(path: string): string {
  return path.replace(/\?.*/, '').replace(/\{.*/, '*');
}
