import { closeSync, constants, fchmodSync, fstatSync, openSync } from 'node:fs';
import type { Stats } from 'node:fs';

/** What was done to the audit file from outside, or was found in it. */
export interface AuditFileChange {
  readonly how: 'removed' | 'moved' | 'replaced' | 'truncated' | 'torn' | 'gap' | 'tightened';
  readonly path: string;
}

/** Each kind in words for the log. */
export const changeMessages: Readonly<Record<AuditFileChange['how'], string>> = {
  removed: 'the audit file was removed; it continues in a new one',
  moved: 'the audit file was moved away, and no SIGUSR1 followed; it continues in a new one',
  replaced:
    'the audit file was replaced by another one, and the records in it are gone; it continues in that one',
  truncated: 'the audit file was truncated, and records in it can be gone; move it and send SIGUSR1 instead',
  torn: 'the last line of the audit file was cut off by a crash; a record says so',
  gap: 'the last records of the audit file are missing; a record says so',
  tightened: 'other users could open a file of the audit; its mode was changed',
};

const { O_APPEND, O_CREAT, O_RDWR, O_NONBLOCK, O_NOCTTY } = constants;
/** Write for the group, and everything for others; a group that reads it is meant to. */
const forbiddenBits = 0o037;

/** Opens an audit file, or makes it with mode 0600. Throws what `open` throws, and for what is no file. The caller closes it. */
export function openAuditFile(path: string, onChange: (change: AuditFileChange) => void): number {
  // Not blocking: a FIFO without a reader would be waited for.
  const fd = openSync(path, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY, 0o600);
  try {
    const stats = fstatSync(fd);
    const problem = auditFileProblem(path, stats);
    if (problem !== undefined) throw new Error(problem);
    if (stats.isFile() && process.platform !== 'win32' && (stats.mode & forbiddenBits) !== 0) {
      fchmodSync(fd, stats.mode & 0o7777 & ~forbiddenBits);
      onChange({ how: 'tightened', path });
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Why a file that is there cannot be the audit of a process of this user; undefined where it can. */
export function auditFileProblem(path: string, stats: Stats): string | undefined {
  if (stats.isFIFO() || stats.isSocket()) return `${path} is no file; the audit needs one`;
  if (!stats.isFile() || process.platform === 'win32') return undefined;
  const { uid, mode } = stats;
  const user = process.geteuid?.();
  if (user !== 0 && uid !== user && uid !== 0)
    return `${path} belongs to another user, who could change its records; run: chown ${user} ${path}`;
  // One of root's, which the gateway's user can write by its group, is as root wants it.
  if ((mode & forbiddenBits) !== 0 && uid !== user && user !== 0)
    return `other users can open ${path}; run: chmod o-rwx,g-w ${path}`;
  return undefined;
}

/** How the open file has lost its name; undefined where it was moved and another one was put in its place, as by rotation. */
export function describeChange(
  own: Stats,
  there: Stats | undefined,
): 'removed' | 'moved' | 'replaced' | undefined {
  if (there === undefined) return own.nlink === 0 ? 'removed' : 'moved';
  return own.nlink === 0 ? 'replaced' : undefined;
}

/** Whether both are the same file. */
export function isSameFile(
  a: { readonly dev: number; readonly ino: number },
  b: { readonly dev: number; readonly ino: number },
): boolean {
  return a.ino === b.ino && a.dev === b.dev;
}
