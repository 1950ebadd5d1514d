import { randomBytes } from 'node:crypto';
import { rename, unlink } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import type { ListenOptions, Server } from 'node:net';
import { dirname, join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { ListenAddress } from '../config/config.ts';

/** Where a server listens: an address of the configuration, or a descriptor that was open when the process began. */
export type ListenSpec = ListenAddress | { readonly kind: 'passed'; readonly fd: number };

/**
 * Connections that the kernel keeps until we take them: what Linux allows by default (`net.core.somaxconn`). When everybody comes
 * back at once, those that find no room wait a second before they try again.
 */
const backlog = 4096;

/** `sun_path` of Linux, without its last zero. */
const maxSocketPathBytes = 107;

/**
 * Makes an app listen where nobody else does. `everyone` may connect to a unix socket, or only the user the gateway runs
 * as; one that a dead process left behind is replaced. Rejects with the error of `listen`, with a message for people.
 */
export async function listen(
  app: FastifyInstance,
  door: ListenSpec,
  access: 'everyone' | 'owner',
): Promise<void> {
  await app.ready();
  await translateListenError(door, async () => {
    if (door.kind === 'unix') await removeStaleSocket(door.path);
    await listenOn(app.server, listenOptions(door), access);
  });
}

export interface SharingOptions {
  readonly access: 'everyone' | 'owner';
  /** `first`: nobody else may listen there yet. `next`: whoever does is about to stop. */
  readonly mode: 'first' | 'next';
}

/**
 * Makes an app listen in such a way that another process can do so before this one stops, and none is refused in between.
 * A unix socket stays when the app is closed: see `leave`. Rejects as `listen` does.
 */
export async function listenForTakeover(app: FastifyInstance, door: ListenSpec, options: SharingOptions): Promise<void> {
  const { access: whoMayConnect, mode: turn } = options;
  await app.ready();
  await translateListenError(door, async () => {
    if (door.kind === 'unix') {
      if (turn === 'first') await removeStaleSocket(door.path);
      // No longer than the name itself in most cases: the length of a path is limited.
      const path = join(dirname(door.path), `.${randomBytes(3).toString('base64url')}`);
      await listenOn(app.server, { path, backlog }, whoMayConnect);
      await rename(path, door.path);
      return;
    }
    // The probe does not share: it fails where anybody listens at all, another gateway of ours too.
    if (door.kind === 'tcp' && turn === 'first') await assertPortFree(door);
    await listenOn(
      app.server,
      { ...listenOptions(door), reusePort: door.kind === 'tcp' },
      whoMayConnect,
    ).catch(
      // Systems whose kernel does not share ports between listeners: macOS, Windows.
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOTSUP') throw error;
        return listenOn(app.server, listenOptions(door), whoMayConnect);
      },
    );
  });
}

/** Removes the unix socket of a door that nobody listens on any more. */
export async function removeSocketFile(door: ListenSpec): Promise<void> {
  if (door.kind === 'unix') await unlink(door.path).catch(() => {});
}

/** Does `work`; what it throws becomes a message for people about the door. */
export async function translateListenError(door: ListenSpec, work: () => Promise<void>): Promise<void> {
  if (door.kind === 'unix' && Buffer.byteLength(door.path) > maxSocketPathBytes) {
    throw new Error(
      `cannot listen on ${door.path}: the path of a unix socket is at most ${maxSocketPathBytes} bytes`,
    );
  }
  try {
    await work();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new Error(`cannot listen on ${describeDoor(door)} (${code})`, { cause });
  }
}

/** Removes the socket of a dead process. Rejects with EADDRINUSE when somebody listens on it. */
export async function removeStaleSocket(path: string): Promise<void> {
  if (await isAnswered(path)) throw Object.assign(new Error(`${path} is answered`), { code: 'EADDRINUSE' });
  await unlink(path).catch(() => {});
}

/** Rejects when anybody listens there, who shares the port or not. */
export async function assertPortFree(door: Extract<ListenSpec, { kind: 'tcp' }>): Promise<void> {
  const server = createServer();
  await listenOn(server, listenOptions(door), 'everyone');
  await new Promise((resolve) => server.close(resolve));
}

async function listenOn(
  server: Server,
  options: ListenOptions | { fd: number },
  access: SharingOptions['access'],
): Promise<void> {
  const before = process.umask(access === 'owner' ? 0o177 : 0o111);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options, () => {
        server.off('error', reject);
        resolve();
      });
      // The socket file exists as soon as `listen` returns.
      process.umask(before);
    });
  } finally {
    process.umask(before);
  }
}

function listenOptions(door: ListenSpec): ListenOptions | { fd: number } {
  if (door.kind === 'tcp') return { host: door.host, port: door.port, backlog };
  return door.kind === 'unix' ? { path: door.path, backlog } : { fd: door.fd };
}

/** A door as people write it. */
export function describeDoor(door: ListenSpec): string {
  if (door.kind === 'tcp') return `${door.host.includes(':') ? `[${door.host}]` : door.host}:${door.port}`;
  return door.kind === 'unix' ? door.path : 'the socket that was passed';
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
