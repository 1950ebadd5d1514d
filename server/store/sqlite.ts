import { closeSync, constants, existsSync, fchownSync, fstatSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { TunnelError } from '../../protocol/errors.ts';

/** SQLite says that the file is damaged. */
export class DamagedError extends Error {}
/** The layout of the file is one of a later version. */
export class NewerError extends Error {}

/** The module. Node 22 warns on stderr that the module is experimental; it is the same that later ones call stable. */
export function sqlite(): typeof import('node:sqlite') {
  const emitWarning = Object.getOwnPropertyDescriptor(process, 'emitWarning')!;
  Object.defineProperty(process, 'emitWarning', { ...emitWarning, value: () => {} });
  try {
    return process.getBuiltinModule('node:sqlite');
  } finally {
    Object.defineProperty(process, 'emitWarning', emitWarning);
  }
}

/**
 * Makes the file with mode 0600 if it is not there; SQLite gives the files beside it the same mode. Throws
 * `STORE_UNAVAILABLE` for one that others can read.
 */
export function makePrivate(file: string): void {
  const descriptor = openOrMake(file);
  try {
    const { mode } = fstatSync(descriptor);
    // Windows has no such modes; there the directory has to be private.
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw unusable(file, `it can be read by others; run: chmod 600 ${file}`);
    }
  } finally {
    closeSync(descriptor);
  }
}

function openOrMake(file: string): number {
  try {
    return existsSync(file) ? openSync(file, constants.O_RDWR) : make(file);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw unusable(file, `it cannot be opened for writing (${code})`, cause);
  }
}

function make(file: string): number {
  const descriptor = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o600);
  // Root makes it for the user that the gateway runs as: `postern-gateway user add` before the first start.
  const { uid, gid } = statSync(dirname(file));
  if (process.geteuid?.() === 0) fchownSync(descriptor, uid, gid);
  return descriptor;
}

/** What SQLite's result codes mean to the operator (https://sqlite.org/rescode.html). */
const resultWords: Readonly<Record<number, string>> = {
  5: 'another process holds it',
  8: 'it is read-only',
  10: 'the disk failed, or is full',
  11: 'it is damaged; put a backup in its place, or move it away: people then sign in anew, and accounts are made anew',
  13: 'the disk is full, or the file is as large as it may be',
  14: 'it cannot be opened',
  26: 'it is not a store of this gateway',
};

/** Does `work`; what SQLite throws becomes `STORE_UNAVAILABLE` that says why `file` cannot be used. */
export function translateSqliteError<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof DamagedError) throw unusable(file, resultWords[11]!, cause);
    if (cause instanceof NewerError) throw unusable(file, 'a newer gateway has written it', cause);
    const { code, errcode } = cause as { code?: unknown; errcode?: unknown };
    if (code !== 'ERR_SQLITE_ERROR' || typeof errcode !== 'number') throw cause;
    // The low byte is the kind, the rest says more (extended result codes).
    throw unusable(file, resultWords[errcode & 0xff] ?? (cause as Error).message, cause);
  }
}

function unusable(file: string, why: string, cause?: unknown): TunnelError {
  return new TunnelError('STORE_UNAVAILABLE', `the store ${file} cannot be used: ${why}`, { cause });
}
