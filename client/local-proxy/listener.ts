import { once } from 'node:events';
import { lstatSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { dirname } from 'node:path';
import { formatHost } from '../../protocol/target.ts';
import { ClientError } from '../errors/failure.ts';
import { makeDirectory, reason } from '../os/files.ts';
import type { LocalListenAddress, LocalAddress } from './listen-address.ts';

/** An open listener of the local proxy. */
export interface LocalListener {
  readonly address: LocalListenAddress;
  /** `127.0.0.1:1080`, or the path. */
  readonly name: string;
  /** Stops accepting connections; open ones continue. Removes a unix socket. */
  close(): void;
}

/**
 * Listens. `onSocket` owns each socket, which has an `error` listener already and keeps its half-open state. Throws
 * `CONFIG_INVALID`.
 */
export async function openListener(
  address: LocalListenAddress,
  onSocket: (socket: Socket) => void,
): Promise<LocalListener> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    // Stays for good: a reset between two owners of the socket must not end the process.
    socket.on('error', () => {});
    onSocket(socket);
  });
  const { at } = address;
  try {
    await (at.kind === 'tcp' ? listenTcp(server, at) : listenUnix(server, at.path));
  } catch (cause) {
    const [where, code] = [at.kind === 'tcp' ? `${formatHost(at.host)}:${at.port}` : at.path, reason(cause)];
    const what = code === 'EADDRINUSE' ? 'another program uses it' : code;
    throw new ClientError('CONFIG_INVALID', `cannot listen on ${where}: ${what}`, { cause });
  }
  // Too many open files, for example: connections that could not be accepted are reset or wait, and others continue.
  server.on('error', () => {});
  const name = at.kind === 'unix' ? at.path : nameOf(server.address() as AddressInfo);
  return { address, name, close: () => void server.close() };
}

function nameOf({ address, port }: AddressInfo): string {
  return `${formatHost(address)}:${port}`;
}

async function listenTcp(
  server: Server,
  { host, port }: Extract<LocalAddress, { kind: 'tcp' }>,
): Promise<void> {
  server.listen({ host, port });
  await once(server, 'listening');
}

async function listenUnix(server: Server, path: string): Promise<void> {
  makeDirectory(dirname(path));
  try {
    await bind(server, path);
  } catch (error) {
    if (reason(error) !== 'EADDRINUSE' || !(await isAbandoned(path))) throw error;
    rmSync(path);
    await bind(server, path);
  }
}

/** Only this user can connect, from the first moment: a mode that is set afterwards comes too late. */
async function bind(server: Server, path: string): Promise<void> {
  const umask = process.umask(0o177);
  try {
    // Binds before it returns.
    server.listen({ path });
  } finally {
    process.umask(umask);
  }
  await once(server, 'listening');
}

/** Whether this socket was left behind by a process that was killed. */
async function isAbandoned(path: string): Promise<boolean> {
  const stats = lstatSync(path);
  if (!stats.isSocket() || stats.uid !== process.getuid!()) return false;
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error) => resolve(reason(error) === 'ECONNREFUSED'));
  });
}
