import { realpathSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { reason } from '../../os/files.ts';
import { SchemeUnavailable } from './scheme.ts';

/** The part of the npm package `kerberos` that is used: GSSAPI, or SSPI on Windows. */
export interface Kerberos {
  readonly GSS_MECH_OID_SPNEGO: number;
  initializeClient(service: string, options: KerberosOptions): Promise<KerberosClient>;
}

export interface KerberosOptions {
  readonly mechOID: number;
  readonly flags: number;
  /** On Windows only; the default is the logged-on user. */
  readonly user?: string;
  readonly domain?: string;
  readonly password?: string;
}

export interface KerberosClient {
  readonly contextComplete: boolean;
  /** The newest token to send, in Base64; null when there is none. */
  readonly response: string | null;
  step(challenge: string): Promise<unknown>;
}

/** Loads the package, as `loadKerberos` does. */
export type LoadKerberos = () => Kerberos;

/**
 * Loads the package where its user has installed one: in a `node_modules` beside this program or above it, or among the
 * global ones of this Node.js. Never from the current directory, nor from one where another user could have put it.
 * Throws `SchemeUnavailable`.
 */
export function loadKerberos(program = realpathSync(process.argv[1]!)): Kerberos {
  const require = createRequire(program);
  const beside = require.resolve.paths('kerberos') ?? [];
  const global = join(dirname(process.execPath), '..', 'lib', 'node_modules');
  for (const folder of [...beside, global]) {
    const path = resolved(join(folder, 'kerberos'));
    if (path === undefined) continue;
    if (!isSafe(path)) {
      throw new SchemeUnavailable(
        `the package in ${path} is not used: other users could have put it there`,
        '',
      );
    }
    try {
      return require(path) as Kerberos;
    } catch (cause) {
      throw new SchemeUnavailable(`the package in ${path} cannot be loaded: ${reason(cause)}`, installation, {
        cause,
      });
    }
  }
  throw new SchemeUnavailable(
    'Kerberos needs the npm package kerberos, which is not installed',
    installation,
  );
}

const installation = 'npm install --global kerberos';

function resolved(path: string): string | undefined {
  try {
    return dirname(realpathSync(join(path, 'package.json')));
  } catch {
    return undefined;
  }
}

/** Whether only this user and root can have written `path`: each folder above it belongs to one of them. */
function isSafe(path: string): boolean {
  if (process.getuid === undefined) return true;
  const { uid, mode } = statSync(path);
  const isOurs = uid === 0 || uid === process.getuid();
  // In a folder like /tmp, with the sticky bit, other users cannot rename our files.
  const isClosed = (mode & 0o002) === 0 || (mode & 0o1000) !== 0;
  const above = dirname(path);
  return isOurs && isClosed && (above === path || isSafe(above));
}
