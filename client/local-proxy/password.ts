import { createHash, randomBytes } from 'node:crypto';
import { equalInConstantTime } from '../../base/constant-time.ts';
import { Secret } from '../../protocol/secret.ts';
import { ClientError } from '../errors/failure.ts';
import { readSmall, reason, writePrivate } from '../os/files.ts';

/** The maximum of SOCKS5 (RFC 1929). */
const maxBytes = 255;

/** The password of a listener. */
export class Password {
  readonly #hash: Buffer;

  constructor(text: Secret) {
    this.#hash = hashOf(text.reveal());
  }

  /** Compares in constant time. */
  matches(candidate: string): boolean {
    return equalInConstantTime(hashOf(candidate), this.#hash);
  }
}

function hashOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Reads the password in `path`; creates the file with a new password if it does not exist. Throws `CONFIG_INVALID`. */
export function passwordInFile(path: string): { readonly password: Password; readonly isNew: boolean } {
  try {
    const { bytes, stats } = readSmall(path, 4096);
    if (process.getuid !== undefined && stats.isFile() && (stats.mode & 0o077) !== 0) {
      throw new ClientError('CONFIG_INVALID', `the password in ${path} is not used: others can read it`, {
        hint: `chmod 600 '${path}'`,
      });
    }
    return { password: passwordOf(bytes.toString().trim(), path), isNew: false };
  } catch (error) {
    if (error instanceof ClientError) throw error;
    if (reason(error) !== 'ENOENT') throw unusable(path, `cannot be read: ${reason(error)}`);
  }
  const text = randomBytes(18).toString('base64url');
  try {
    writePrivate(path, `${text}\n`);
  } catch (cause) {
    throw unusable(path, `cannot be written: ${reason(cause)}`);
  }
  return { password: new Password(new Secret(text)), isNew: true };
}

/** A password that was given as `text`. Throws `CONFIG_INVALID`. */
export function passwordOf(text: string, from: string): Password {
  if (text === '') throw unusable(from, 'is empty');
  if (Buffer.byteLength(text) > maxBytes) throw unusable(from, `is longer than ${maxBytes} bytes`);
  return new Password(new Secret(text));
}

function unusable(from: string, what: string): ClientError {
  return new ClientError('CONFIG_INVALID', `the password in ${from} ${what}`);
}
