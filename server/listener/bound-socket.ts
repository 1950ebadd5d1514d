import { randomBytes } from 'node:crypto';
import { closeSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { translateListenError, removeStaleSocket, assertPortFree } from './listen.ts';
import type { ListenSpec, SharingOptions } from './listen.ts';

/** A socket for other processes to listen on. This one holds it, and accepts nothing. */
export interface HeldSocket {
  readonly fd: number;
  /** Whether several may be had for one address, among which the kernel divides the callers. */
  readonly sharesPort: boolean;
  /** Gives a unix socket its name, when somebody listens on it. */
  publish(): Promise<void>;
  /** The socket lasts as long as another process has it. */
  close(): void;
}

/** What Node.js has no public word for; its own `cluster` holds its sockets by it. */
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

/** Binds a socket. Everybody may connect to a unix one. Throws the error of `bind`. */
export function bindSocket(door: ListenSpec): HeldSocket {
  if (door.kind === 'passed')
    return { fd: door.fd, sharesPort: false, publish: async () => {}, close: () => closeSync(door.fd) };
  if (door.kind === 'tcp') return { ...holdPort(door), publish: async () => {} };
  // No longer than the name itself in most cases: the length of a path is limited.
  const path = join(dirname(door.path), `.${randomBytes(3).toString('base64url')}`);
  const before = process.umask(0o111);
  try {
    const handle = bind(path, -1, -1, 0);
    return {
      fd: handle.fd,
      sharesPort: false,
      publish: () => rename(path, door.path),
      close: () => handle.close(),
    };
  } finally {
    process.umask(before);
  }
}

/**
 * Binds sockets for other processes to listen on, at most so many; fewer where one has to do for all. Rejects as `listen`
 * does.
 */
export async function bindSockets(
  door: ListenSpec,
  turn: SharingOptions['mode'],
  count: number,
): Promise<readonly HeldSocket[]> {
  const held: HeldSocket[] = [];
  try {
    await translateListenError(door, async () => {
      if (turn === 'first' && door.kind === 'unix') await removeStaleSocket(door.path);
      if (turn === 'first' && door.kind === 'tcp') await assertPortFree(door);
      while (held.length < count && held.every(({ sharesPort }) => sharesPort)) held.push(bindSocket(door));
    });
    return held;
  } catch (error) {
    for (const socket of held) socket.close();
    throw error;
  }
}

function holdPort({ host, port }: Extract<ListenSpec, { kind: 'tcp' }>): Omit<HeldSocket, 'publish'> {
  const type = host.includes(':') ? 6 : 4;
  try {
    const handle = bind(host, port, type, reusePort);
    return { fd: handle.fd, sharesPort: true, close: () => handle.close() };
  } catch (error) {
    // Systems whose kernel does not share ports between listeners: macOS, Windows.
    if ((error as NodeJS.ErrnoException).code !== 'ENOTSUP') throw error;
    const handle = bind(host, port, type, 0);
    return { fd: handle.fd, sharesPort: false, close: () => handle.close() };
  }
}

function bind(
  address: string,
  port: number,
  type: number,
  flags: number,
): { readonly fd: number; close(): void } {
  const made = (net as unknown as BindingNet)._createServerHandle(address, port, type, undefined, flags);
  if (typeof made !== 'number') return made;
  const code = getSystemErrorName(made);
  throw Object.assign(new Error(`bind ${code}`), { code });
}
