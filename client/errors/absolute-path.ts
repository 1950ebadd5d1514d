import { isAbsolute, resolve } from 'node:path';
import { ClientError } from './failure.ts';

/**
 * `path` from the current directory. `from` says where it was given: an option, or the name of a variable. Throws
 * `CONFIG_INVALID` for a relative path without a current directory, which can have been removed.
 */
export function absolutePath(path: string, from: string): string {
  if (isAbsolute(path)) return resolve(path);
  try {
    return resolve(path);
  } catch (cause) {
    const what = `${from} is a relative path, and the current directory has been removed`;
    throw new ClientError('CONFIG_INVALID', what, { cause, hint: 'cd' });
  }
}
