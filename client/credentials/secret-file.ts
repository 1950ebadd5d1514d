import { ClientError } from '../errors/failure.ts';
import { readSmall, reason } from '../os/files.ts';

const largestFileBytes = 64 * 1024;

/**
 * The text of a file that only this user may read; undefined when there is none. Throws `CONFIG_INVALID` for one that
 * is a symbolic link, belongs to somebody else, or that others can read.
 */
export function readSecretFile(path: string): string | undefined {
  let file;
  try {
    file = readSmall(path, largestFileBytes, { follow: false });
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR'].includes(reason(cause))) return undefined;
    throw unusable(path, reason(cause) === 'ELOOP' ? 'it is a symbolic link' : reason(cause), cause);
  }
  if (process.getuid !== undefined) {
    if (!file.stats.isFile() || file.stats.uid !== process.getuid())
      throw unusable(path, 'it is not a file of yours');
    if ((file.stats.mode & 0o077) !== 0) {
      throw new ClientError('CONFIG_INVALID', `the sign-in in ${path} is not used: others can read it`, {
        hint: 'postern login',
      });
    }
  }
  return file.bytes.toString();
}

/** That what a sign-in left cannot be used; signing in again puts it right. */
export function unusable(path: string, what: string, cause?: unknown): ClientError {
  return new ClientError('CONFIG_INVALID', `the sign-in in ${path} is not used: ${what}`, {
    cause,
    hint: 'postern login',
  });
}
