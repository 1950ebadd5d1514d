import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { lstat, rename, unlink } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import type { ListenOptions, Server } from 'node:net';
import { dirname, join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { ListenAddress } from '../config/config.ts';

/** The address at which a server listens: one of the configuration, or a descriptor that was open when the process began. */
export type ListenSpec = ListenAddress | { readonly kind: 'passed'; readonly fd: number };

/**
 * Connections that the kernel keeps until the process accepts them: what Linux allows by default (`net.core.somaxconn`).
 * When all clients come back at once, those that find no room wait a second before they try again.
 */
const backlog = 4096;

/** `sun_path` of Linux, without its last zero. */
const maxSocketPathBytes = 107;

/**
 * Makes an app listen where no other process does. `everyone` can connect to a unix socket, or only the user the gateway
 * runs as; a socket that a dead process left behind is replaced, and this one stays when the app is closed: see
 * `removeSocketFile`. Rejects with the error of `listen`, with a message for
 * people.
 */
export async function listen(
  app: FastifyInstance,
  spec: ListenSpec,
  access: 'everyone' | 'owner',
): Promise<void> {
  await app.ready();
  if (spec.kind === 'unix') return listenForTakeover(app.server, spec, { access, mode: 'exclusive' });
  await translateListenError(spec, () => listenOn(app.server, listenOptions(spec), access));
}

/** `exclusive`: no other process may listen there yet. `takeover`: the process that does is about to stop. */
export type ListenMode = 'exclusive' | 'takeover';

export interface SharingOptions {
  readonly access: 'everyone' | 'owner';
  readonly mode: ListenMode;
}

/**
 * Makes a server listen in such a way that another process can do so before this one stops, and no connection is refused
 * in between. A unix socket stays when the server is closed: see `removeSocketFile`. Rejects as `listen` does.
 */
export async function listenForTakeover(
  server: Server,
  spec: ListenSpec,
  { access, mode }: SharingOptions,
): Promise<void> {
  await translateListenError(spec, async () => {
    if (spec.kind === 'unix') {
      if (mode === 'exclusive') await removeStaleSocket(spec.path);
      const { path, publish } = temporarySocket(spec.path);
      await listenOn(server, { path, backlog }, access);
      await publish();
      return;
    }
    // The probe does not share: it fails where any process listens at all, another gateway of ours too.
    if (spec.kind === 'tcp' && mode === 'exclusive') await assertPortFree(spec);
    await listenOn(server, { ...listenOptions(spec), reusePort: spec.kind === 'tcp' }, access).catch(
      // Systems whose kernel does not share ports between listeners: macOS, Windows.
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOTSUP') throw error;
        return listenOn(server, listenOptions(spec), access);
      },
    );
  });
}

/** Removes the unix socket of an address that no process listens on any more. */
export async function removeSocketFile(spec: ListenSpec): Promise<void> {
  // What is there can be another process's by now, or anything.
  if (spec.kind === 'unix') await removeStaleSocket(spec.path).catch(() => {});
}

/**
 * A name in the directory of `path` for a unix socket that is bound there first; `publish` renames it to `path`, so that
 * callers find either the old socket or one that listens. In most cases it is no longer than `path` itself: the length of
 * the path of a socket is limited.
 */
export function temporarySocket(path: string): {
  readonly path: string;
  readonly publish: () => Promise<void>;
} {
  const temporary = join(dirname(path), `.${randomBytes(3).toString('base64url')}`);
  return {
    path: temporary,
    async publish() {
      try {
        await isFree(path);
        await rename(temporary, path);
      } catch (error) {
        await unlink(temporary).catch(() => {});
        throw error;
      }
    },
  };
}

/** Does `work`; what it throws becomes a message for people that names the address. */
export async function translateListenError(spec: ListenSpec, work: () => Promise<void>): Promise<void> {
  if (spec.kind === 'unix' && Buffer.byteLength(spec.path) > maxSocketPathBytes) {
    throw new Error(
      `cannot listen on ${spec.path}: the path of a unix socket is at most ${maxSocketPathBytes} bytes`,
    );
  }
  try {
    await work();
  } catch (cause) {
    const error = cause as NodeJS.ErrnoException & { readonly kind?: string };
    const advice = listenAdvice(spec, error);
    throw new Error(
      `cannot listen on ${describeListenSpec(spec)} (${error.code})${advice === undefined ? '' : `: ${advice}`}`,
      { cause },
    );
  }
}

/** What to do about an error of `listen`. */
function listenAdvice(
  spec: ListenSpec,
  { code, kind }: NodeJS.ErrnoException & { readonly kind?: string },
): string | undefined {
  if (spec.kind === 'tcp') {
    if (code === 'EADDRINUSE')
      return `another program listens there; this names it: ss -ltnp 'sport = :${spec.port}'`;
    if (code === 'EACCES') return 'ports below 1024 are for root, and for programs with CAP_NET_BIND_SERVICE';
    return code === 'EADDRNOTAVAIL' ? 'this machine does not have that address' : undefined;
  }
  if (spec.kind !== 'unix') return undefined;
  if (code === 'EEXIST')
    return `there is ${kind ?? 'something'}, not a socket; move it away, or change the path`;
  if (code === 'EADDRINUSE') return 'another program has that socket';
  const folder = dirname(spec.path);
  // libuv reports EACCES for both.
  if (!existsSync(folder)) return `the folder ${folder} does not exist; create it`;
  return code === 'EACCES' ? `the folder ${folder} is not writable` : undefined;
}

/**
 * Removes the socket of a dead process. Rejects with EADDRINUSE when a process has it, and with EEXIST for what is no
 * socket: a file is never removed.
 */
export async function removeStaleSocket(path: string): Promise<void> {
  if (await isFree(path)) return;
  if (await isAnswered(path)) throw Object.assign(new Error(`${path} is answered`), { code: 'EADDRINUSE' });
  await unlink(path).catch(() => {});
}

/** Whether there is nothing at a path; rejects with EEXIST where there is something other than a socket. */
async function isFree(path: string): Promise<boolean> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found === undefined) return true;
  if (found.isSocket()) return false;
  throw Object.assign(new Error(`${path} is not a socket`), { code: 'EEXIST', kind: kindOf(found) });
}

function kindOf(found: Stats): string {
  if (found.isDirectory()) return 'a directory';
  return found.isSymbolicLink() ? 'a symbolic link' : found.isFile() ? 'a file' : 'a device or pipe';
}

/** Rejects when any process listens there, whether it shares the port or not. */
export async function assertPortFree(spec: Extract<ListenSpec, { kind: 'tcp' }>): Promise<void> {
  const server = createServer();
  await listenOn(server, listenOptions(spec), 'everyone');
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

function listenOptions(spec: ListenSpec): ListenOptions | { fd: number } {
  if (spec.kind === 'tcp') return { host: spec.host, port: spec.port, backlog };
  return spec.kind === 'unix' ? { path: spec.path, backlog } : { fd: spec.fd };
}

/** An address as people write it. */
export function describeListenSpec(spec: ListenSpec): string {
  if (spec.kind === 'tcp') return `${spec.host.includes(':') ? `[${spec.host}]` : spec.host}:${spec.port}`;
  return spec.kind === 'unix' ? spec.path : 'the socket that was passed';
}

/** Whether a process has the socket: only a refused connection says that none does. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // EAGAIN: it has more callers than it accepts. EPROTOTYPE, EACCES: it is of another kind, or of another user.
    socket.once('error', ({ code }: NodeJS.ErrnoException) =>
      resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT'),
    );
  });
}
