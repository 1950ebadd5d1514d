import { realpathSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { reason } from '../../os/files.ts';
import { SchemeUnavailable } from './scheme.ts';

/** What is used of the npm package `kerberos`: GSSAPI, or SSPI on Windows. */
export interface Kerberos {
  readonly GSS_MECH_OID_SPNEGO: number;
  initializeClient(service: string, options: KerberosOptions): Promise<KerberosClient>;
}

export interface KerberosOptions {
  readonly mechOID: number;
  readonly flags: number;
  /** On Windows only; without them it is whoever is logged on. */
  readonly user?: string;
  readonly domain?: string;
  readonly password?: string;
}

export interface KerberosClient {
  readonly contextComplete: boolean;
  /** In Base64, the newest token to send; null when there is none. */
  readonly response: string | null;
  step(challenge: string): Promise<unknown>;
}

/** Gives the package, as `loadKerberos` does. */
export type LoadKerberos = () => Kerberos;

/**
 * Loads the package where its user has installed one: in a `node_modules` beside this program or above it, or among the
 * global ones of this Node. Never from the current directory, nor from one where somebody else could have put it.
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
      throw new SchemeUnavailable(`the package in ${path} is not used: others could have put it there`, '');
    }
    try {
      return require(path) as Kerberos;
    } catch (cause) {
      throw new SchemeUnavailable(`the package in ${path} cannot be loaded: ${reason(cause)}`, installation, {
        cause,
      });
    }
  }
  throw new SchemeUnavailable('Kerberos needs the npm package kerberos, which is not installed', installation);
}

const installation = 'npm install --global kerberos';

function resolved(path: string): string | undefined {
  try {
    return dirname(realpathSync(join(path, 'package.json')));
  } catch {
    return undefined;
  }
}

/** Whether only this user and root can have put something at `path`: each folder above it belongs to one of them. */
function isSafe(path: string): boolean {
  if (process.getuid === undefined) return true;
  const { uid, mode } = statSync(path);
  const isOurs = uid === 0 || uid === process.getuid();
  // In a folder like /tmp, with the sticky bit, others cannot rename what is ours.
  const isClosed = (mode & 0o002) === 0 || (mode & 0o1000) !== 0;
  const above = dirname(path);
  return isOurs && isClosed && (above === path || isSafe(above));
}
