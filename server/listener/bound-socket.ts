import { closeSync } from 'node:fs';
import net from 'node:net';
import { getSystemErrorName } from 'node:util';
import { assertPortFree, removeStaleSocket, temporarySocket, translateListenError } from './listen.ts';
import type { ListenMode, ListenSpec } from './listen.ts';

/** A socket for other processes to listen on. This process holds it, and accepts nothing. */
export interface BoundSocket {
  readonly fd: number;
  /** Whether several can be bound to one address, among which the kernel divides the callers. */
  readonly sharesPort: boolean;
  /** Gives a unix socket its name, when a process listens on it. */
  publish(): Promise<void>;
  /** The socket lasts as long as another process has it. */
  close(): void;
  /**
   * Accepts its callers here as well, for a process that has the socket and does not; they arrive paused. Returns the
   * function that stops it, which closes the socket as `close` does. Only for one that `sharesPort`.
   */
  accept(onConnection: (connection: net.Socket) => void): () => void;
}

/** The function by which Node's own `cluster` holds its sockets. It is not public. */
interface BindingNet {
  _createServerHandle(
    address: string,
    port: number,
    addressType: number,
    fd: undefined,
    flags: number,
  ): number | { readonly fd: number; close(): void };
}

/** `UV_TCP_REUSEPORT` of libuv's `uv_tcp_flags`. */
const reusePort = 2;

/** Binds a socket. Every user of the machine can connect to a unix one. Throws the error of `bind`. */
export function bindSocket(spec: ListenSpec): BoundSocket {
  if (spec.kind === 'passed')
    return {
      fd: spec.fd,
      sharesPort: false,
      publish: async () => {},
      close: () => closeSync(spec.fd),
      accept: neverAccepts,
    };
  if (spec.kind === 'tcp') return { ...bindPort(spec), publish: async () => {} };
  const { path, publish } = temporarySocket(spec.path);
  const before = process.umask(0o111);
  try {
    const handle = bind(path, -1, -1, 0);
    return {
      fd: handle.fd,
      sharesPort: false,
      publish,
      close: () => handle.close(),
      accept: neverAccepts,
    };
  } finally {
    process.umask(before);
  }
}

/**
 * Binds sockets to one address for other processes to listen on, at most `count`; only one where an address cannot have
 * several. Rejects as `listen` does.
 */
export async function bindSockets(
  spec: ListenSpec,
  mode: ListenMode,
  count: number,
): Promise<readonly BoundSocket[]> {
  const bound: BoundSocket[] = [];
  try {
    await translateListenError(spec, async () => {
      if (mode === 'exclusive' && spec.kind === 'unix') await removeStaleSocket(spec.path);
      if (mode === 'exclusive' && spec.kind === 'tcp') await assertPortFree(spec);
      while (bound.length < count && bound.every(({ sharesPort }) => sharesPort))
        bound.push(bindSocket(spec));
    });
    return bound;
  } catch (error) {
    for (const socket of bound) socket.close();
    throw error;
  }
}

/**
 * The descriptor of a listening socket. Node.js has no public word for it; undefined where it has none, and then a
 * successor listens beside this process.
 */
export function descriptorOf(server: net.Server): number | undefined {
  const { fd = -1 } = (server as { readonly _handle?: { readonly fd?: number } })._handle ?? {};
  return fd >= 0 ? fd : undefined;
}

function bindPort({ host, port }: Extract<ListenSpec, { kind: 'tcp' }>): Omit<BoundSocket, 'publish'> {
  const type = host.includes(':') ? 6 : 4;
  try {
    const handle = bind(host, port, type, reusePort);
    return {
      fd: handle.fd,
      sharesPort: true,
      close: () => handle.close(),
      accept: (onConnection) => acceptFrom(handle, onConnection),
    };
  } catch (error) {
    // Systems whose kernel does not share ports between listeners: macOS, Windows.
    if ((error as NodeJS.ErrnoException).code !== 'ENOTSUP') throw error;
    const handle = bind(host, port, type, 0);
    return { fd: handle.fd, sharesPort: false, close: () => handle.close(), accept: neverAccepts };
  }
}

/** `server.listen(handle)` takes over the handle, and closes it when it is closed. */
function acceptFrom(handle: object, onConnection: (connection: net.Socket) => void): () => void {
  const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, onConnection);
  server.on('error', () => {});
  server.listen(handle);
  server.unref();
  return () => void server.close();
}

/** Of a socket that all workers share, the others accept the callers anyway. */
function neverAccepts(): () => void {
  return () => {};
}

function bind(
  address: string,
  port: number,
  type: number,
  flags: number,
): { readonly fd: number; close(): void } {
  const handle = (net as unknown as BindingNet)._createServerHandle(address, port, type, undefined, flags);
  if (typeof handle !== 'number') return handle;
  const code = getSystemErrorName(handle);
  throw Object.assign(new Error(`bind ${code}`), { code });
}
