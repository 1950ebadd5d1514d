import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Server as TlsServer } from 'node:https';
import proxyAddress from '@fastify/proxy-addr';
import type { WorkPacer } from '../../base/work-pacer.ts';
import type { Config } from '../config/config.ts';
import { descriptors } from '../net/descriptors.ts';
import type { DescriptorBudget } from '../net/descriptors.ts';
import { customerNetwork } from '../net/cidr.ts';
import type { Counter } from '../policy/counter.ts';
import { ReadPacer } from './read-pacer.ts';

/** Why a connection was closed for another one: its address, or all together, have too many. */
export type ConnectionLimit = 'address' | 'total';

export interface ConnectionGuardOptions {
  /** The limits now; a reload can change them. */
  readonly config: () => Pick<Config, 'limits' | 'trustedProxies' | 'workers'>;
  readonly counter: Counter;
  readonly budget?: DescriptorBudget;
  /** Requests that come all at once are read as these have time for them. */
  readonly pacer: WorkPacer;
  /** Called for each connection that is closed because of a limit. */
  readonly onClosed: (limit: ConnectionLimit) => void;
  /** Called when a connection could not be accepted. */
  readonly onAcceptError: (error: Error) => void;
}

/** A caller that speaks to us without a web proxy between asks its next question within this time. */
const directKeepAliveMs = 5000;

/** One connection of a caller. */
interface Connection {
  readonly socket: Socket;
  /** Absent for a trusted proxy, which has the connections of many callers. */
  readonly bucket: string | undefined;
}

/**
 * Counts the connections of each address from the first moment, before TLS and before any request, and of all together by
 * the descriptors that the process has. Where there are too many, the one that has waited longest for a request gives its place to the
 * newest: callers that have something to say get in, however many others are silent. Connections with a tunnel or a
 * request, and those of trusted proxies, are never closed for another; without any other the newest is. The count of an
 * address is that of all workers, but a worker can close its own connections only: each has room for its share of the limit,
 * however many the others hold.
 */
export class ConnectionGuard {
  readonly #options: ConnectionGuardOptions;
  readonly #budget: DescriptorBudget;
  readonly #pacer: ReadPacer;
  readonly #open = new Map<ConnectionKey, Connection>();
  /** Those that wait for a request, in the order in which they began to, by address and all together. */
  readonly #waiting = new Set<Connection>();
  readonly #waitingOf = new Map<string, Set<Connection>>();
  /** The number of connections of each address in this process. */
  readonly #countOf = new Map<string, number>();
  #count = 0;
  #isWatching = false;
  #trusted: { readonly from: readonly string[]; readonly is: (address: string) => boolean } | undefined;

  constructor(options: ConnectionGuardOptions) {
    this.#options = options;
    this.#budget = options.budget ?? descriptors;
    this.#pacer = new ReadPacer(options.pacer);
  }

  /** How many are open. */
  get count(): number {
    return this.#count;
  }

  /** Watches the connections of a server, TLS or not, from now on. */
  watch(server: Server): void {
    server.prependListener('connection', (socket: Socket) => {
      // Now all others that listen for upgrades are in place.
      if (!this.#isWatching) this.#watchRequests(server);
      this.#isWatching = true;
      this.#accept(socket);
      this.#pacer.onRead();
      // What is read of a unix socket by TLS does not say which one it is.
      if (!socket.destroyed && !(server instanceof TlsServer && socket.remoteAddress === undefined))
        this.#pacer.add(socket);
    });
    server.on('error', this.#options.onAcceptError);
  }

  /** Closes those that wait for a request. The server knows of none whose TLS handshake is not over, and would wait for it. */
  closeWaiting(): void {
    for (const { socket } of this.#waiting) socket.destroy();
  }

  #watchRequests(server: Server): void {
    const begin = ({ socket }: IncomingMessage): Connection | undefined => {
      const connection = this.#open.get(keyOf(socket));
      if (connection) this.#pacer.remove(connection.socket);
      this.#pacer.onRead();
      this.#stopWaiting(connection);
      return connection;
    };
    server.prependListener('upgrade', begin);
    server.prependListener('connect', begin);
    server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
      const connection = begin(request);
      if (connection === undefined) return;
      response.once('close', () => {
        if (connection.socket.destroyed) return;
        this.#pacer.addAgain(connection.socket);
        if (connection.bucket === undefined) return;
        this.#startWaiting(connection);
        request.socket.setTimeout(directKeepAliveMs);
      });
    });
  }

  #accept(socket: Socket): void {
    // It has reset the connection already.
    if (socket.destroyed) return;
    const { counter, config } = this.#options;
    const address = socket.remoteAddress;
    const bucket =
      address === undefined || this.#isTrusted(address)
        ? undefined
        : `connection ${customerNetwork(address)}`;
    const connection: Connection = { socket, bucket };
    const key = keyOf(socket);
    const giveBack = this.#budget.add();
    this.#count++;
    this.#open.set(key, connection);
    const ofAddress = bucket === undefined ? 0 : counter.add(bucket);
    if (bucket !== undefined) this.#countHere(bucket, 1);
    socket.once('close', () => {
      giveBack();
      this.#count--;
      if (this.#open.get(key) === connection) this.#open.delete(key);
      this.#stopWaiting(connection);
      this.#pacer.remove(socket);
      if (bucket === undefined) return;
      counter.remove(bucket);
      this.#countHere(bucket, -1);
    });
    const { limits, workers } = config();
    const { perAddress, connectionsPerAddress = 3 * perAddress } = limits;
    const share = Math.max(1, Math.floor(connectionsPerAddress / Math.max(1, workers)));
    if (bucket !== undefined && ofAddress > connectionsPerAddress && this.#countOf.get(bucket)! > share)
      this.#makeRoom(connection, 'address', this.#waitingOf.get(bucket));
    // As many again are needed for targets.
    else if (this.#count > this.#budget.max / 2 || this.#budget.used > this.#budget.max)
      this.#makeRoom(connection, 'total', this.#waiting);
    if (bucket !== undefined && !socket.destroyed) this.#startWaiting(connection);
  }

  #countHere(bucket: string, more: number): void {
    const count = (this.#countOf.get(bucket) ?? 0) + more;
    if (count > 0) this.#countOf.set(bucket, count);
    else this.#countOf.delete(bucket);
  }

  #makeRoom(newest: Connection, limit: ConnectionLimit, waiting: Set<Connection> | undefined): void {
    const [oldest = newest] = waiting ?? [];
    this.#stopWaiting(oldest);
    oldest.socket.destroy();
    this.#options.onClosed(limit);
  }

  #startWaiting(connection: Connection): void {
    const { bucket } = connection;
    if (bucket === undefined) return;
    const ofAddress = this.#waitingOf.get(bucket) ?? new Set();
    this.#waitingOf.set(bucket, ofAddress.add(connection));
    this.#waiting.add(connection);
  }

  #stopWaiting(connection: Connection | undefined): void {
    if (connection?.bucket === undefined) return;
    this.#waiting.delete(connection);
    const ofAddress = this.#waitingOf.get(connection.bucket);
    ofAddress?.delete(connection);
    if (ofAddress?.size === 0) this.#waitingOf.delete(connection.bucket);
  }

  #isTrusted(address: string): boolean {
    const { trustedProxies } = this.#options.config();
    if (this.#trusted?.from !== trustedProxies) {
      const check = proxyAddress.compile([...trustedProxies]);
      this.#trusted = { from: trustedProxies, is: (one) => check(one, 0) };
    }
    return this.#trusted.is(address);
  }
}

type ConnectionKey = string | Socket;

/** The same for a connection and for the TLS on it; a unix socket has no name but itself. */
function keyOf(socket: Socket): ConnectionKey {
  const { remoteAddress, remotePort, localPort } = socket;
  if (remoteAddress === undefined) return socket;
  return `${remoteAddress} ${remotePort} ${localPort}`;
}
