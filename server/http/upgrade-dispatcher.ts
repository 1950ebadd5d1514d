import { randomBytes } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TunnelError, toTunnelError } from '../../protocol/errors.ts';
import type { Incoming, OnOffer, RequestEntry } from '../entry/entry.ts';
import { refuse } from '../entry/refusal.ts';
import { connectionPeer } from './client-address.ts';
import type { RemoteAddress } from './client-address.ts';
import { readRequestTarget } from './request-path.ts';
import { checkRequest } from './request-validation.ts';

export interface RequestListenerOptions {
  readonly entries: readonly RequestEntry[];
  /** Paths below it belong to the gateway, whether or not an entry matches them. */
  readonly prefix: string;
  readonly origins: () => readonly string[];
  /** The origin of the gateway's own URL. */
  readonly ownOrigin?: string;
  readonly remoteAddress: RemoteAddress;
  readonly onOffer: OnOffer;
  /** Called for a request that was refused before it became an offer; `path` is without its query. */
  readonly onMalformed: (incoming: Omit<Incoming, 'socket'>, path: string, error: TunnelError) => void;
}

type UpgradeListener = (request: IncomingMessage, stream: Duplex, head: Buffer) => void;

/**
 * Takes over the `upgrade` and `connect` requests of an HTTP server. Upgrades of other owners (another path, with a
 * listener of another plugin) go to the listeners that were there before, which `release` restores.
 * Call it when every other listener is in place.
 */
export function handleTunnelRequests(server: Server, options: RequestListenerOptions): { release(): void } {
  const others = server.listeners('upgrade') as UpgradeListener[];
  const upgrade: UpgradeListener = (request, stream, head) => {
    stream.on('error', ignore);
    if (others.length > 0 && !isOurs(request, options)) {
      for (const listener of others) listener.call(server, request, stream, head);
      return;
    }
    handleUpgrade(request, head, options);
  };
  const connect: UpgradeListener = (request, stream, head) => {
    stream.on('error', ignore);
    handleUpgrade(request, head, options);
  };
  server.removeAllListeners('upgrade');
  server.on('upgrade', upgrade);
  server.on('connect', connect);
  return {
    release() {
      server.off('upgrade', upgrade);
      server.off('connect', connect);
      for (const listener of others) server.on('upgrade', listener);
    },
  };
}

/**
 * Node.js removes its own error listener before it emits `upgrade` or `connect`. Without this one, a reset that
 * arrives while the offer is decided would end the process, and every tunnel in it.
 */
const ignore = (): void => {};

function isOurs(request: IncomingMessage, options: RequestListenerOptions): boolean {
  return request.url!.startsWith(options.prefix) || options.entries.some((entry) => entry.matches(request));
}

function handleUpgrade(request: IncomingMessage, head: Buffer, options: RequestListenerOptions): void {
  // From Node.js 26 on, the stream of a request whose body is still to come is not its socket. Such a request is refused
  // on the socket itself.
  const { socket } = request;
  socket.on('error', ignore);
  const incoming = prepareConnection(request, socket, head, options.remoteAddress);
  // A query is no part of a target, and can contain a secret.
  const [path = ''] = (request.url ?? '').split('?');
  try {
    if (request.method !== 'CONNECT') readRequestTarget(request.url ?? '');
    checkRequest(request, options.origins(), options.ownOrigin);
    const token = request.method === 'CONNECT' ? undefined : request.headers.upgrade!.toLowerCase();
    chooseEntry(request, token, options).handle(request, incoming, options.onOffer);
  } catch (error) {
    const refusal = toTunnelError(error);
    refuse(socket, refusal, incoming.id, { speaksAs: request.method === 'CONNECT' ? 'proxy' : 'origin' });
    options.onMalformed(incoming, path, refusal);
  }
}

const idBytes = 9;
/** Random bytes from the system cost the same for many ids as for one. */
const random = { bytes: Buffer.alloc(0), at: 0 };

/** The id of a request in its answer, the log and the audit: 72 random bits, and never in the form of a command line option. */
export function newRequestId(): string {
  if (random.at === random.bytes.length) {
    random.bytes = randomBytes(128 * idBytes);
    random.at = 0;
  }
  const id = random.bytes.toString('base64url', random.at, (random.at += idBytes));
  return id.startsWith('-') ? `_${id.slice(1)}` : id;
}

/** Shared by all connections: creating an error for the end of each costs a fortieth of the gateway's time. */
const connectionClosed = new Error('the connection has closed');

/** Sets the connection up for a tunnel. */
function prepareConnection(
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
  remoteAddress: RemoteAddress,
): Incoming {
  const closed = new AbortController();
  socket.once('close', () => closed.abort(connectionClosed));
  // Before any await: after a FIN these bytes could no longer be put back.
  if (head.length > 0) socket.unshift(head);
  // Both directions of the bridge, the entry and this file each listen for its end.
  socket.setMaxListeners(20);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 25_000);
  socket.setTimeout(0);
  return {
    socket,
    remoteAddress: remoteAddress(request),
    peer: connectionPeer(socket),
    id: newRequestId(),
    signal: closed.signal,
  };
}

/** The entry for a request. Throws `ENTRY_UNKNOWN` when none matches, `REQUEST_INVALID` unless it has exactly one known token. */
function chooseEntry(
  request: IncomingMessage,
  token: string | undefined,
  options: RequestListenerOptions,
): RequestEntry {
  const candidates = options.entries.filter(({ upgrades }) =>
    token === undefined ? upgrades.length === 0 : upgrades.includes(token),
  );
  const entry = candidates.find((each) => each.matches(request));
  if (entry) return entry;
  if (candidates.length === 0 && token !== undefined) {
    throw new TunnelError(
      'REQUEST_INVALID',
      'this request cannot open a tunnel: its Upgrade token is unknown',
    );
  }
  throw new TunnelError('ENTRY_UNKNOWN', 'there is no tunnel at this path');
}
