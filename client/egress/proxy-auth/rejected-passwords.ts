import { randomBytes, scryptSync } from 'node:crypto';
import { join } from 'node:path';
import { readSmall, writePrivate } from '../../os/files.ts';
import type { ProxyCredentials } from './credentials.ts';

/** Directories count wrong passwords for about half an hour, and lock an account after three to ten. */
const keepMs = 10 * 60_000;
const maxKept = 16;
const maxFileBytes = 16 * 1024;

/** A record of a refused password. */
interface Refusal {
  readonly proxy: string;
  readonly user: string;
  readonly at: number;
  readonly salt: string;
  readonly mark: number;
}

/** The refused passwords of all processes of this user: editors and scripts start the next process right away. */
export class Refusals {
  readonly path: string;
  readonly #now: () => number;

  constructor(state: string, now: () => number = Date.now) {
    this.path = join(state, 'proxy-refusals.json');
    this.#now = now;
  }

  /** Time since the proxy refused this very password, in milliseconds; undefined when it did not, or long ago. */
  ageOf(proxy: string, credentials: ProxyCredentials): number | undefined {
    const found = this.#recent().find(
      (each) =>
        each.proxy === proxy &&
        each.user === credentials.user &&
        each.mark === markOf(credentials, each.salt),
    );
    return found && this.#now() - found.at;
  }

  /** Records a refusal. Never throws: where it cannot be written, only this process knows it. */
  keep(proxy: string, credentials: ProxyCredentials): void {
    const salt = randomBytes(16).toString('base64url');
    const refusal = {
      proxy,
      user: credentials.user,
      at: this.#now(),
      salt,
      mark: markOf(credentials, salt),
    };
    try {
      const kept = [...this.#recent(), refusal].slice(-maxKept);
      writePrivate(this.path, `${JSON.stringify(kept)}\n`);
    } catch {
      // A home that cannot be written.
    }
  }

  #recent(): Refusal[] {
    const now = this.#now();
    try {
      const kept: unknown = JSON.parse(readSmall(this.path, maxFileBytes).bytes.toString());
      return Array.isArray(kept)
        ? kept.filter((each) => isRefusal(each) && each.at <= now && now - each.at < keepMs)
        : [];
    } catch {
      return [];
    }
  }
}

/**
 * A mark that nearly always tells two passwords apart, and is too short to find one: one guess of a thousand matches.
 */
function markOf({ user, password }: ProxyCredentials, salt: string): number {
  return scryptSync(`${user}\0${password.reveal()}`, salt, 2).readUInt16BE() % 1024;
}

function isRefusal(value: unknown): value is Refusal {
  const { proxy, user, at, salt, mark } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return (
    [proxy, user, salt].every((each) => typeof each === 'string') &&
    [at, mark].every((each) => typeof each === 'number')
  );
}
