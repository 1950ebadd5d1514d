import { X509Certificate, createPrivateKey } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { NotRegularFileError, readRegularFileSync } from '../../base/regular-file.ts';
import { TunnelError } from '../../protocol/errors.ts';
import type { Config } from '../config/config.ts';

/** More than a chain of certificates can reasonably be. */
const maxBytes = 4 * 1024 * 1024;

type Tls = NonNullable<Config['tls']>;

/** The files that `tls` of the configuration names, read now. Throws `CONFIG_INVALID` when no server can use them. */
export function certificateOf(tls: Tls): { readonly cert: Buffer; readonly key: Buffer } {
  const [cert, key] = [read('tls.certFile', tls.certFile), read('tls.keyFile', tls.keyFile)];
  const certificate = understand(
    () => new X509Certificate(cert),
    `tls.certFile: ${tls.certFile} is not a certificate in PEM`,
  );
  const privateKey = readPrivateKey(key, tls.keyFile);
  if (!certificate.checkPrivateKey(privateKey))
    throw invalid('tls.keyFile is not the key of the certificate in tls.certFile');
  understand(() => createSecureContext({ cert, key }), 'tls: this certificate and its key cannot be used');
  return { cert, key };
}

/** When the certificate of the file ends, in milliseconds since 1970. Throws as `certificateOf` does. */
export function certificateEnd(tls: Tls): number {
  return Date.parse(new X509Certificate(certificateOf(tls).cert).validTo);
}

function readPrivateKey(key: Buffer, file: string): KeyObject {
  if (/BEGIN ENCRYPTED|Proc-Type: 4,ENCRYPTED/.test(key.toString('latin1')))
    throw invalid(`tls.keyFile: ${file} is encrypted with a password; write it without one: openssl pkey`);
  return understand(() => createPrivateKey(key), `tls.keyFile: ${file} is not a private key in PEM`);
}

function read(name: string, file: string): Buffer {
  try {
    return readRegularFileSync(file, maxBytes);
  } catch (cause) {
    if (cause instanceof NotRegularFileError || cause instanceof RangeError)
      throw invalid(`${name}: ${file} ${cause.message}`, cause);
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw invalid(`${name}: there is no file ${file}`, cause);
    if (code === 'EACCES') throw invalid(`${name}: ${file} cannot be read by this user`, cause);
    throw invalid(`${name}: ${file} cannot be read (${code})`, cause);
  }
}

/** Replaces the words of OpenSSL, which name no file, by ours. */
function understand<T>(work: () => T, message: string): T {
  try {
    return work();
  } catch (cause) {
    throw invalid(message, cause);
  }
}

function invalid(message: string, cause?: unknown): TunnelError {
  return new TunnelError('CONFIG_INVALID', message, { cause });
}
