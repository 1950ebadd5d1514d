import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** The variables of the environment, as in `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The folders of this user's files. All absolute. */
export interface UserPaths {
  readonly home: string;
  /** `config.json`, and the `ssh_config` that `setup` generates. */
  readonly config: string;
  /** Sign-in, last error, caches of what worked in which network. */
  readonly state: string;
}

/** The XDG directories. A relative path in the environment is ignored, as the XDG specification asks. */
export function userPaths(env: Environment): UserPaths {
  const home = absolute(env['HOME']) ?? homeOfUser();
  return {
    home,
    config: join(absolute(env['XDG_CONFIG_HOME']) ?? join(home, '.config'), 'postern'),
    state: join(absolute(env['XDG_STATE_HOME']) ?? join(home, '.local', 'state'), 'postern'),
  };
}

/** A path where no file can be, for a user without a home, as in a container: a token and a gateway can be given nevertheless. */
const nowhere = '/dev/null';

function homeOfUser(): string {
  try {
    return absolute(homedir()) ?? nowhere;
  } catch {
    return nowhere;
  }
}

function absolute(path: string | undefined): string | undefined {
  return path !== undefined && isAbsolute(path) ? path : undefined;
}
