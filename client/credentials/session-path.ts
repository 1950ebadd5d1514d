import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** How the directory of a sign-in is called, before the hash of the whole address. */
export function signInPrefix({ host }: URL): string {
  return `${host.replaceAll(/[^a-z0-9.-]/g, '_').slice(0, 100)}-`;
}

/** The path of the sign-in itself. */
export function signInPath(directory: string): string {
  return join(directory, 'sign-in.json');
}

/** Whether there is a sign-in at this host, as far as can be told without reading one. */
export function hasSignInAt(state: string, gateway: URL): boolean {
  const prefix = signInPrefix(gateway);
  try {
    return readdirSync(state).some(
      (name) => name.startsWith(prefix) && existsSync(signInPath(join(state, name))),
    );
  } catch {
    return false;
  }
}
