import { closeSync, constants, existsSync, fchownSync, fstatSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { TunnelError } from '../../protocol/errors.ts';

/** SQLite reports that the file is damaged. */
export class DamagedError extends Error {}
/** The file has the layout of a later version. */
export class NewerError extends Error {}

/** The module `node:sqlite`, without the warning of Node 22 that it is experimental; later versions call the same module stable. */
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
 * Makes the file with mode 0600 if there is none; SQLite gives the files beside it the same mode. Throws
 * `STORE_UNAVAILABLE` for a file that other users can read.
 */
export function makePrivate(file: string): void {
  const descriptor = openOrMake(file);
  try {
    const { mode } = fstatSync(descriptor);
    // Windows has no such modes; there the directory has to be private.
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw unusable(file, `other users can read it; run: chmod 600 ${file}`);
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
  // Root makes it for the user that runs the gateway: `postern-gateway user add` before the first start.
  const { uid, gid } = statSync(dirname(file));
  if (process.geteuid?.() === 0) fchownSync(descriptor, uid, gid);
  return descriptor;
}

/** The meaning of SQLite's result codes for the operator (https://sqlite.org/rescode.html). */
const resultReasons: Readonly<Record<number, string>> = {
  5: 'another process has locked it',
  8: 'it is read-only',
  10: 'the disk failed or is full',
  11: 'it is damaged; restore a backup, or move the file away: everyone then has to sign in again, and accounts have to be created again',
  13: 'the disk is full, or the file has reached its maximum size',
  14: 'it cannot be opened',
  26: 'it is not a store of a gateway',
};

/** Runs `work`; an error of SQLite becomes `STORE_UNAVAILABLE` with the reason why `file` cannot be used. */
export function translateSqliteError<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof DamagedError) throw unusable(file, resultReasons[11]!, cause);
    if (cause instanceof NewerError)
      throw unusable(file, 'it was written by a newer version of the gateway', cause);
    const { code, errcode } = cause as { code?: unknown; errcode?: unknown };
    if (code !== 'ERR_SQLITE_ERROR' || typeof errcode !== 'number') throw cause;
    // The low byte is the kind, the rest a detail (extended result codes).
    throw unusable(file, resultReasons[errcode & 0xff] ?? (cause as Error).message, cause);
  }
}

/** The error of a store that cannot be used. */
export function unusable(file: string, why: string, cause?: unknown): TunnelError {
  return new TunnelError('STORE_UNAVAILABLE', `the store ${file} cannot be used: ${why}`, { cause });
}
