import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { withDeadline } from './deadline.ts';

/** Without it, to open a pipe waits for its writer, for ever and on one of few threads. Windows has none. */
const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
const readMs = 10_000;

export interface RegularFile {
  readonly bytes: Buffer;
  /** From after it was read. */
  readonly stats: Stats;
}

/** What was named is no file: a directory, a pipe, a socket, a device. Its message continues the name of the file. */
export class NotRegularFileError extends Error {}

/**
 * Reads a file of the operator. `check` is called before. Rejects with what the file system says, and what `check`
 * throws; with `NotRegularFileError`; with `RangeError` for a file that has more than `maxBytes`, or that has not come
 * within 10 seconds.
 */
export function readRegularFile(
  file: string,
  maxBytes: number,
  check: (stats: Stats) => void = () => {},
): Promise<RegularFile> {
  return withDeadline(undefined, readMs, () => readNow(file, maxBytes, check), {
    onTimeout: () => new RangeError('cannot be read: nothing came within 10 seconds'),
  });
}

async function readNow(file: string, maxBytes: number, check: (stats: Stats) => void): Promise<RegularFile> {
  const handle = await open(file, flags);
  try {
    const stats = await handle.stat();
    assertRegular(stats, maxBytes);
    check(stats);
    return { bytes: await readUpTo(handle, maxBytes), stats: await handle.stat() };
  } finally {
    await handle.close();
  }
}

/** A file that grows meanwhile is read up to the limit, and fails as one of that length. */
async function readUpTo(handle: FileHandle, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let length = 0; ;) {
    const { bytesRead, buffer } = await handle.read({ buffer: Buffer.alloc(64 * 1024) });
    if (bytesRead === 0) return Buffer.concat(chunks);
    length += bytesRead;
    if (length > maxBytes) throw new RangeError(`is larger than ${maxBytes} bytes`);
    chunks.push(buffer.subarray(0, bytesRead));
  }
}

/** The same at once. Throws as `readRegularFile` rejects, without a limit of time. */
export function readRegularFileSync(file: string, maxBytes: number): Buffer {
  const descriptor = openSync(file, flags);
  try {
    assertRegular(fstatSync(descriptor), maxBytes);
    return readFileSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function assertRegular(stats: Stats, maxBytes: number): void {
  if (stats.isDirectory()) throw new NotRegularFileError('is a directory');
  if (!stats.isFile()) throw new NotRegularFileError('is not a regular file');
  if (stats.size > maxBytes) throw new RangeError(`is larger than ${maxBytes} bytes`);
}
