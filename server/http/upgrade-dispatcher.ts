import { randomBytes } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TunnelError, toTunnelError } from '../../protocol/errors.ts';
import type { Incoming, OnOffer, RequestEntry } from '../entry/entry.ts';
import { refuse } from '../entry/refusal.ts';
import type { RemoteAddress } from './client-address.ts';
import { checkRequest } from './request-validation.ts';

export interface RequestListenerOptions {
  readonly entries: readonly RequestEntry[];
  /** Paths below it belong to the gateway whether or not an entry knows them. */
  readonly prefix: string;
  readonly origins: () => readonly string[];
  readonly remoteAddress: RemoteAddress;
  readonly onOffer: OnOffer;
  /** Told of requests that were refused before they became an offer. */
  readonly onMalformed: (incoming: Omit<Incoming, 'socket'>, asked: string, error: TunnelError) => void;
}

type UpgradeListener = (request: IncomingMessage, stream: Duplex, head: Buffer) => void;

/**
 * Takes over the `upgrade` and `connect` requests of an HTTP server. Upgrades that belong to somebody else (another
 * path, listened for by another plugin) go to the listeners that were there before, which `release` puts back.
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
 * Node takes its own error listener away before it emits `upgrade` or `connect`. Without this one, a reset that
 * arrives while we think would end the process, and every tunnel in it.
 */
const ignore = (): void => {};

function isOurs(request: IncomingMessage, options: RequestListenerOptions): boolean {
  return request.url!.startsWith(options.prefix) || options.entries.some((entry) => entry.matches(request));
}

function handleUpgrade(request: IncomingMessage, head: Buffer, options: RequestListenerOptions): void {
  // From Node 26 on, a request whose body is still to come brings a stream in its socket's place. It is refused, there.
  const { socket } = request;
  socket.on('error', ignore);
  const incoming = dispatch(request, socket, head, options.remoteAddress);
  // A query belongs to no tunnel, and somebody's secret may be in it.
  const [asked = ''] = (request.url ?? '').split('?');
  try {
    checkRequest(request, options.origins());
    const token = request.method === 'CONNECT' ? undefined : request.headers.upgrade!.toLowerCase();
    chooseEntry(request, token, options).handle(request, incoming, options.onOffer);
  } catch (error) {
    const refusal = toTunnelError(error);
    refuse(socket, refusal, incoming.id, { speaksAs: request.method === 'CONNECT' ? 'proxy' : 'origin' });
    options.onMalformed(incoming, asked, refusal);
  }
}

const idBytes = 9;
/** To ask the system for randomness costs the same for many ids as for one. */
const random = { bytes: Buffer.alloc(0), at: 0 };

/** Names a request in its answer, the log and the audit: 72 random bits, and never like an option of a command. */
export function newRequestId(): string {
  if (random.at === random.bytes.length) {
    random.bytes = randomBytes(128 * idBytes);
    random.at = 0;
  }
  const id = random.bytes.toString('base64url', random.at, (random.at += idBytes));
  return id.startsWith('-') ? `_${id.slice(1)}` : id;
}

/** One for all: an error that is made for each end of a connection costs a fortieth of the gateway's time. */
const gone = new Error('the connection has closed');

function dispatch(
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
  remoteAddress: RemoteAddress,
): Incoming {
  const closed = new AbortController();
  socket.once('close', () => closed.abort(gone));
  // Before anything is awaited: after a FIN these bytes could no longer be put back.
  if (head.length > 0) socket.unshift(head);
  // The two ways of the bridge, the entry and ourselves each listen for the end of it.
  socket.setMaxListeners(20);
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 25_000);
  socket.setTimeout(0);
  return {
    socket,
    remoteAddress: remoteAddress(request),
    id: newRequestId(),
    signal: closed.signal,
  };
}

/** Throws `ENTRY_UNKNOWN` where nothing answers, `REQUEST_INVALID` for a token other than exactly one we know. */
function chooseEntry(
  request: IncomingMessage,
  token: string | undefined,
  options: RequestListenerOptions,
): RequestEntry {
  const spoken = options.entries.filter(({ upgrades }) =>
    token === undefined ? upgrades.length === 0 : upgrades.includes(token),
  );
  const known = spoken.find((entry) => entry.matches(request));
  if (known) return known;
  if (spoken.length === 0 && token !== undefined) {
    throw new TunnelError(
      'REQUEST_INVALID',
      'this request cannot open a tunnel: its Upgrade token is not known here',
    );
  }
  throw new TunnelError('ENTRY_UNKNOWN', 'there is no tunnel at this path');
}
