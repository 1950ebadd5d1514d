import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';

/** Writes `content` so that only this user can read it, in a directory only this user can enter. Throws as `fs` does. */
export function writePrivate(path: string, content: string | Buffer): void {
  makeDirectory(dirname(path));
  replaceFile(path, content, 0o600);
}

/**
 * Makes a directory that only this user can enter, and its parents, unless it is there. Throws as `fs` does. Node.js does the
 * same with `recursive`, but goes on for ever below a directory that answers every `mkdir` with ENOENT, such as /proc.
 */
export function makeDirectory(path: string): void {
  try {
    mkdirSync(path, 0o700);
  } catch (error) {
    const code = reason(error);
    if (code === 'ENOENT' && dirname(path) !== path) {
      makeDirectory(dirname(path));
      return makeIn(path);
    }
    // Also of a file system that cannot be written: what is there need not be made.
    if (!isDirectory(path)) throw error;
  }
}

/** Makes a directory whose parent is there; another process can be as quick. */
function makeIn(path: string): void {
  try {
    mkdirSync(path, 0o700);
  } catch (error) {
    if (!isDirectory(path)) throw error;
  }
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Replaces `path` atomically: readers see the old content or the new, never a part. */
export function replaceFile(path: string, content: string | Buffer, mode: number): void {
  const temporary = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}.tmp`;
  const file = openSync(temporary, 'wx', mode);
  try {
    try {
      writeFileSync(file, content);
      // `openSync` has applied the umask.
      fchmodSync(file, mode);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** Extra room for a file that grows while it is read, or that does not report its size. */
const usualBytes = 1024;

/** A file's content and metadata. */
export interface SmallFile {
  readonly bytes: Buffer;
  readonly stats: Stats;
}

/**
 * Reads at most `limit` bytes, whatever `path` turns out to be; throws `RangeError` when there are more.
 * With `follow: false` a symbolic link is an `ELOOP` error.
 */
export function readSmall(path: string, limit: number, options: { follow?: boolean } = {}): SmallFile {
  const noFollow = options.follow === false ? (constants.O_NOFOLLOW ?? 0) : 0;
  const file = openSync(path, constants.O_RDONLY | noFollow);
  try {
    // The size can be reported as 0 for a pipe or a file of the kernel.
    let buffer = Buffer.alloc(Math.min(limit, fstatSync(file).size + usualBytes) + 1);
    let length = 0;
    while (length <= limit) {
      if (length === buffer.length) buffer = Buffer.concat([buffer], Math.min(limit + 1, 2 * buffer.length));
      const count = readSync(file, buffer, length, buffer.length - length, null);
      if (count === 0) return { bytes: buffer.subarray(0, length), stats: fstatSync(file) };
      length += count;
    }
    throw new RangeError(`more than ${limit} bytes`);
  } finally {
    closeSync(file);
  }
}

/** The system's error code (`ENOENT`), or the message where there is none. */
export function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code ?? message;
}

/** Whether other users than this one and root can write the file; ssh refuses such files too. */
export function othersCanWrite(stats: Stats): boolean {
  if (process.getuid === undefined) return false;
  return (stats.uid !== 0 && stats.uid !== process.getuid()) || (stats.mode & 0o022) !== 0;
}
