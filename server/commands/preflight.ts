import { randomBytes } from 'node:crypto';
import { lstat, open, stat, unlink } from 'node:fs/promises';
import type { Stats } from 'node:fs';
import { availableParallelism, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { toTunnelError } from '../../protocol/errors.ts';
import { loadKeyFile } from '../auth/gateway-key.ts';
import type { Config, ListenAddress } from '../config/config.ts';
import { certificateOf } from '../http/certificate.ts';

/** What stops the gateway from starting, or from working as the settings say: a setting, and words for people. */
export interface StartProblem {
  readonly path: string;
  readonly message: string;
}

/** The longest path of a socket that the gateway makes in the folder of its instances. */
const instanceSocket = '.d/12345678.sock';
const maxSocketPathBytes = 107;

/**
 * What around these settings stops `serve`, looked at as this user and now: files, folders, certificates. `serve` begins
 * with it and `check` reports it, so that they agree. Leaves no file behind. The ports and the content of the store are
 * looked at by `serve` itself, and by `check`. `isListenPassed`: systemd, or the process before, has made that socket.
 */
export async function findStartProblems(
  config: Config,
  { isListenPassed = false }: { readonly isListenPassed?: boolean } = {},
): Promise<readonly StartProblem[]> {
  const { keyFile, audit, store, control, listen, admin } = config;
  const found = await Promise.all([
    problemOf('keyFile', () => keyProblem(keyFile)),
    problemOf('tls', () => tlsProblem(config)),
    problemOf('audit.file', () => fileProblem(audit.file)),
    // SQLite writes beside it.
    problemOf(
      'store.file',
      async () => (await fileProblem(store.file)) ?? folderProblem(dirname(store.file)),
    ),
    problemOf('control', () => controlProblem(control.path)),
    problemOf('listen', async () => (isListenPassed ? undefined : socketProblem(listen))),
    problemOf('admin', () => socketProblem(admin)),
  ]);
  return found.flat();
}

async function problemOf(
  path: string,
  find: () => Promise<string | undefined>,
): Promise<readonly StartProblem[]> {
  const message = await find().catch((error: unknown) => (error as Error).message);
  if (message === undefined) return [];
  // Some messages begin with the setting themselves.
  return [{ path, message: message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message }];
}

async function keyProblem(file: string): Promise<string | undefined> {
  try {
    if (await loadKeyFile(file)) return undefined;
  } catch (error) {
    return toTunnelError(error).message;
  }
  return folderProblem(dirname(file));
}

async function tlsProblem({ tls }: Config): Promise<string | undefined> {
  if (tls) certificateOf(tls);
  return undefined;
}

/** A file that is there has to be writable, and the folder of one that is not. */
async function fileProblem(file: string): Promise<string | undefined> {
  let found: Stats;
  try {
    found = await stat(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ENOTDIR' ? folderProblem(dirname(file)) : describe(file, code);
  }
  if (found.isDirectory()) return `${file} is a directory`;
  // To open a pipe would wait for its reader.
  if (!found.isFile()) return undefined;
  try {
    await (await open(file, 'r+')).close();
    return undefined;
  } catch (error) {
    return describe(file, (error as NodeJS.ErrnoException).code);
  }
}

/** Makes a file in the folder and removes it: nothing else shows that it can be done. */
async function folderProblem(folder: string): Promise<string | undefined> {
  const name = `the folder ${folder}`;
  const found = await stat(folder).catch((error: NodeJS.ErrnoException) => error.code);
  if (found === 'ENOENT') return `${name} does not exist; create it`;
  if (typeof found !== 'object') return describe(name, found);
  if (!found.isDirectory()) return `${folder} is not a folder`;
  const probe = join(folder, `.postern-check-${randomBytes(6).toString('hex')}`);
  try {
    await (await open(probe, 'wx', 0o600)).close();
    await unlink(probe);
    return undefined;
  } catch (error) {
    return describe(name, (error as NodeJS.ErrnoException).code);
  }
}

async function controlProblem(path: string): Promise<string | undefined> {
  if (Buffer.byteLength(`${path}${instanceSocket}`) > maxSocketPathBytes)
    return `${path} is too long: the sockets below it end in ${instanceSocket}, and the path of a unix socket is at most ${maxSocketPathBytes} bytes`;
  const folder = await folderProblem(dirname(path));
  if (folder !== undefined)
    return `cannot create ${path}.d: ${folder}. Under systemd set control: unix:/var/lib/postern/control.sock`;
  const instances = await stat(`${path}.d`).catch(() => undefined);
  if (instances && !instances.isDirectory()) return `${path}.d is not a folder; move it away`;
  if (instances && process.platform !== 'win32' && (instances.mode & 0o077) !== 0)
    return `${path}.d has to belong to the gateway's user alone; run: chmod 700 ${path}.d`;
  return socketProblem({ kind: 'unix', path });
}

async function socketProblem(address: ListenAddress): Promise<string | undefined> {
  if (address.kind !== 'unix') return undefined;
  const found = await lstat(address.path).catch(() => undefined);
  if (found && !found.isSocket())
    return `${address.path} is there already and not a socket; move it away, or change the path`;
  return folderProblem(dirname(address.path));
}

/** An error of the file system in words. */
function describe(what: string, code: string | undefined): string {
  const user = userName();
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return `${what} is not writable for the user ${user}`;
    case 'EROFS':
      return `${what} is on a read-only file system`;
    case 'ENOSPC':
    case 'EDQUOT':
      return `${what} is on a disk that is full`;
    case 'ENOENT':
      return `${what} cannot be written: nothing can be created there`;
    case 'ENOTDIR':
      return `${what}: a part of its path is not a folder`;
    case 'ELOOP':
      return `${what} is a link to itself`;
    default:
      return `${what} cannot be written (${code})`;
  }
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container's user without a line in passwd.
    return String(process.getuid?.() ?? 'of this process');
  }
}

/** Workers beyond the number of cores share cores, and each costs its memory. */
export function cpuWarnings({ workers }: Pick<Config, 'workers'>): string[] {
  const cores = availableParallelism();
  if (workers === 1 || workers <= cores) return [];
  return [
    `workers: ${workers} processes share ${cores} ${cores === 1 ? 'core' : 'cores'} here; more than one for each core does not help`,
  ];
}
