import { lstatSync, readlinkSync, realpathSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ClientError } from '../errors/failure.ts';
import { readSmall, reason } from '../os/files.ts';

const maxBytes = 4 * 1024 * 1024;

/** The user's ssh configuration: where it really is, and what is in it. */
export interface SshConfig {
  /** The file itself, behind any symbolic links. */
  readonly path: string;
  /** Undefined when there is none. */
  readonly bytes: Buffer | undefined;
  readonly mode: number;
}

/** Finds `~/.ssh/config`. Throws `CONFIG_INVALID` for one that cannot be read or is not a file. */
export function findSshConfig(home: string): SshConfig {
  const path = realPath(join(home, '.ssh', 'config'));
  try {
    const { bytes, stats } = readSmall(path, maxBytes);
    return { path, bytes, mode: stats.mode & 0o777 };
  } catch (cause) {
    if (reason(cause) === 'ENOENT') return { path, bytes: undefined, mode: 0o600 };
    throw new ClientError('CONFIG_INVALID', `cannot read ${path}: ${reason(cause)}`, { cause });
  }
}

/** `bytes` with `line` at the top, or unchanged when the line is in effect already. The other bytes are kept. */
export function withInclude(bytes: Buffer, line: string): Buffer {
  const at = findLine(bytes, line);
  if (at !== undefined && !insideBlock(bytes.subarray(0, at))) return bytes;
  return Buffer.concat([Buffer.from(line), withoutInclude(bytes, line)]);
}

/** `bytes` without `line`; the other bytes are kept. */
export function withoutInclude(bytes: Buffer, line: string): Buffer {
  const at = findLine(bytes, line);
  if (at === undefined) return bytes;
  return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + Buffer.byteLength(line))]);
}

/** The offset of `line` as a line of its own. */
function findLine(bytes: Buffer, line: string): number | undefined {
  for (let at = bytes.indexOf(line); at !== -1; at = bytes.indexOf(line, at + 1)) {
    if (at === 0 || bytes[at - 1] === 0x0a) return at;
  }
  return undefined;
}

/** Whether a line after `head` applies only to some hosts. */
function insideBlock(head: Buffer): boolean {
  return /^[ \t]*(?:host|match)[ \t=]/im.test(head.toString('latin1'));
}

/** The file behind symbolic links, also when the last of them is dangling. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    // It does not exist, or is a dangling link.
  }
  try {
    if (!lstatSync(path).isSymbolicLink()) return path;
    const next = resolve(dirname(path), readlinkSync(path));
    return join(realpathSync(dirname(next)), next.slice(dirname(next).length + 1));
  } catch (cause) {
    if (reason(cause) === 'ENOENT' || reason(cause) === 'ENOTDIR') return path;
    throw new ClientError('CONFIG_INVALID', `cannot follow ${path}: ${reason(cause)}`, { cause });
  }
}
