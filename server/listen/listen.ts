import { unlink } from 'node:fs/promises';
import { createConnection } from 'node:net';
import type { ListenOptions } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { ListenAddress } from '../config/config.ts';

/** Where a server listens: an address of the configuration, or a descriptor that systemd has opened. */
export type Door = ListenAddress | { readonly kind: 'passed'; readonly fd: number };

/** `sun_path` of Linux, without its last zero. */
const maxSocketPathBytes = 107;

/**
 * Makes an app listen. `everyone` may connect to a unix socket, or only the user the gateway runs as; one that a dead
 * process left behind is replaced. Rejects with the error of `listen`, with a message for people.
 */
export async function listen(
  app: FastifyInstance,
  door: Door,
  whoMayConnect: 'everyone' | 'owner',
): Promise<void> {
  await app.ready();
  if (door.kind === 'unix' && Buffer.byteLength(door.path) > maxSocketPathBytes) {
    throw new Error(
      `cannot listen on ${door.path}: the path of a unix socket is at most ${maxSocketPathBytes} bytes`,
    );
  }
  if (door.kind === 'unix' && !(await isAnswered(door.path))) await unlink(door.path).catch(() => {});
  const before = process.umask(whoMayConnect === 'owner' ? 0o177 : 0o111);
  try {
    await new Promise<void>((resolve, reject) => {
      app.server.once('error', reject);
      app.server.listen(listenOptions(door), () => {
        app.server.off('error', reject);
        resolve();
      });
      // The socket file exists as soon as `listen` returns.
      process.umask(before);
    });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new Error(`cannot listen on ${describeDoor(door)} (${code})`, { cause });
  } finally {
    process.umask(before);
  }
}

function listenOptions(door: Door): ListenOptions | { fd: number } {
  if (door.kind === 'tcp') return { host: door.host, port: door.port };
  return door.kind === 'unix' ? { path: door.path } : { fd: door.fd };
}

/** A door as people write it. */
export function describeDoor(door: Door): string {
  if (door.kind === 'tcp') return `${door.host.includes(':') ? `[${door.host}]` : door.host}:${door.port}`;
  return door.kind === 'unix' ? door.path : 'the socket that systemd passed';
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
