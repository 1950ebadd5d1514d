import { ClientError } from '../errors/failure.ts';
import { readSmall, reason } from '../os/files.ts';

const maxFileBytes = 64 * 1024;

/**
 * Reads a file that only this user is allowed to read; undefined when there is none. Throws `CONFIG_INVALID` for a
 * symbolic link, a file of another user, and a file that others can read.
 */
export function readSecretFile(path: string): string | undefined {
  let file;
  try {
    file = readSmall(path, maxFileBytes, { follow: false });
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR'].includes(reason(cause))) return undefined;
    throw unusable(path, reason(cause) === 'ELOOP' ? 'it is a symbolic link' : reason(cause), cause);
  }
  if (process.getuid !== undefined) {
    if (!file.stats.isFile() || file.stats.uid !== process.getuid())
      throw unusable(path, 'it is not a regular file that belongs to you');
    if ((file.stats.mode & 0o077) !== 0) {
      throw new ClientError('CONFIG_INVALID', `the sign-in in ${path} is ignored: other users can read it`, {
        hint: 'postern login',
      });
    }
  }
  return file.bytes.toString();
}

/** The error of a file of a sign-in that cannot be used; a new sign-in replaces it. */
export function unusable(path: string, what: string, cause?: unknown): ClientError {
  return new ClientError('CONFIG_INVALID', `the sign-in in ${path} is ignored: ${what}`, {
    cause,
    hint: 'postern login',
  });
}
