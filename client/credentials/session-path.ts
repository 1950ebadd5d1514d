import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** The name of a sign-in's directory, up to the hash of the whole URL. */
export function signInPrefix({ host }: URL): string {
  return `${host.replaceAll(/[^a-z0-9.-]/g, '_').slice(0, 100)}-`;
}

/** The path of the sign-in itself. */
export function signInPath(directory: string): string {
  return join(directory, 'sign-in.json');
}

/** Whether there is a file of a sign-in to this host; its content is not read. */
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
