import { lstat, mkdir, readdir, stat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { randomBytes } from 'node:crypto';

const suffix = '.sock';
/** Names arrive from the wire, as the beginning of a `sid`: nothing else may become part of a path. */
const namePattern = /^[\w-]{8,40}$/;

export const instanceNameLength = 8;

/** A name for this process among those of the same gateway. It is never used again. */
export function newInstanceName(): string {
  return randomBytes((instanceNameLength * 3) / 4).toString('base64url');
}

/**
 * The directory in which each process of a gateway has a socket of its own, next to the control socket. Access to the
 * directory is permission for all that the sockets can do.
 */
export class RuntimeDirectory {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** Makes it, if it is not there. Rejects when other users could enter it. */
  static async open(controlPath: string): Promise<RuntimeDirectory> {
    const directory = `${controlPath}.d`;
    await mkdir(directory, { mode: 0o700 }).catch(unlessThere);
    const { mode, uid } = await stat(directory);
    const isOurs = process.geteuid === undefined || uid === process.geteuid() || uid === 0;
    if (!isOurs || (process.platform !== 'win32' && (mode & 0o077) !== 0))
      throw new Error(`${directory} has to belong to the gateway's user alone; run: chmod 700 ${directory}`);
    return new RuntimeDirectory(directory);
  }

  /** The path of the socket of an instance, whether or not there is one; undefined for what cannot be a name. */
  socketOf(name: string): string | undefined {
    return namePattern.test(name) ? join(this.directory, name + suffix) : undefined;
  }

  nameOf(socket: string): string {
    return basename(socket, suffix);
  }

  /** The sockets of the other instances that are alive. Those that a dead process has left behind are removed. */
  async others(own: string): Promise<readonly string[]> {
    const entries = await readdir(this.directory);
    const names = entries
      .filter((entry) => entry.endsWith(suffix))
      .map((entry) => entry.slice(0, -suffix.length));
    const sockets = names.filter((name) => name !== own).flatMap((name) => this.socketOf(name) ?? []);
    const alive = await Promise.all(sockets.map((socket) => this.#isAlive(socket)));
    return sockets.filter((_, at) => alive[at]);
  }

  /** Removes the socket of a process that has ended. Only for one that has refused a connection. */
  async remove(socket: string): Promise<void> {
    const found = await lstat(socket).catch(() => undefined);
    if (found?.isSocket()) await unlink(socket).catch(() => {});
  }

  async #isAlive(path: string): Promise<boolean> {
    const code = await new Promise<string | undefined>((resolve) => {
      const socket = connect({ path });
      socket.once('connect', () => {
        socket.destroy();
        resolve(undefined);
      });
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'));
    });
    if (code === 'ECONNREFUSED') await this.remove(path);
    // EAGAIN: it is alive, and has more callers than it accepts.
    return code === undefined || code === 'EAGAIN';
  }
}

function unlessThere(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
}
