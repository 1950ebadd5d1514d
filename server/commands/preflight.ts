import { randomBytes } from 'node:crypto';
import { realpathSync, statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { lstat, open, readlink, stat, unlink } from 'node:fs/promises';
import { availableParallelism, userInfo } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { toTunnelError } from '../../protocol/errors.ts';
import { auditFileProblem } from '../audit/file-change.ts';
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
    problemOf('audit.file', () => auditProblem(audit.file)),
    // SQLite writes beside it.
    problemOf(
      'store.file',
      async () => (await fileProblem(store.file)) ?? folderProblem(dirname(store.file)),
    ),
    problemOf('control', () => controlProblem(control.path)),
    problemOf('listen', async () => (isListenPassed ? undefined : socketProblem(listen))),
    problemOf('admin', () => socketProblem(admin)),
  ]);
  return [...found.flat(), ...sharedFiles(config)];
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
  // A new one takes the place of nothing, not even of a link.
  const link = await readlink(file).catch(() => undefined);
  if (link !== undefined) return `${file} is a link to ${link}, which does not exist`;
  return folderProblem(dirname(file));
}

async function auditProblem(file: string): Promise<string | undefined> {
  const found = await stat(file).catch(() => undefined);
  return (found && auditFileProblem(file, found)) ?? fileProblem(file);
}

async function tlsProblem({ tls }: Config): Promise<string | undefined> {
  if (tls) certificateOf(tls);
  return undefined;
}

/** Settings that name one file: each would write over what the other has there. */
function sharedFiles({
  keyFile,
  audit,
  store,
  control,
  listen,
  admin,
  tls,
}: Config): readonly StartProblem[] {
  const files: readonly (readonly [path: string, file: string | undefined])[] = [
    ['keyFile', keyFile],
    ['store.file', store.file],
    ...['-wal', '-shm', '-journal', '-seen'].map((end) => ['store.file', `${store.file}${end}`] as const),
    ['audit.file', audit.file],
    ['control', control.path],
    ['listen', listen.kind === 'unix' ? listen.path : undefined],
    ['admin', admin.kind === 'unix' ? admin.path : undefined],
    // Both can be in one file.
    ['tls.certFile', tls?.certFile],
    ['tls.keyFile', tls && tls.keyFile !== tls.certFile ? tls.keyFile : undefined],
  ];
  const owners = new Map<string, string>();
  return files.flatMap(([path, file]) => {
    if (file === undefined) return [];
    const name = fileName(file);
    const owner = owners.get(name);
    if (owner !== undefined && owner !== path)
      return [{ path, message: `${file} is the file of ${owner} too; each needs a file of its own` }];
    owners.set(name, path);
    return [];
  });
}

/** The same for all names of a file, whether it is there or not. */
function fileName(file: string): string {
  try {
    const found = statSync(file, { throwIfNoEntry: false });
    if (found) return `${found.dev}:${found.ino}`;
    return join(realpathSync(dirname(file)), basename(file));
  } catch {
    return resolve(file);
  }
}

/** A file that is there has to be writable, and the folder of one that is not. */
async function fileProblem(file: string): Promise<string | undefined> {
  let found: Stats;
  try {
    found = await stat(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') return describe(file, code);
    const link = await readlink(file).catch(() => undefined);
    return folderProblem(dirname(link === undefined ? file : resolve(dirname(file), link)));
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
