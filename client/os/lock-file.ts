import { randomBytes } from 'node:crypto';
import { linkSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeDirectory, readSmall, reason } from './files.ts';
import { isThere, ownIdentity, processState } from './process-identity.ts';
import type { ProcessState } from './process-identity.ts';

/** Interval between two attempts of a waiting process. */
const retryMs = 100;
/** A lock is empty only on file systems without hard links, for microseconds; one that stays empty was left by a process that has ended. */
const emptyMs = 800;

/** One lock file, as seen from outside. */
interface Claim {
  /** 1 for `path` itself; a process that takes over from an abandoned claim makes the next. */
  readonly turn: number;
  /** The identity of its holder, unique to the claim. Undefined for a file that cannot be read. */
  readonly text: string | undefined;
}

/**
 * A lock between processes: a file that only one of them can create, with the identity of its holder in it. A holder that
 * dies leaves it behind, and others see that at their next attempt. A holder that is alive keeps it, however slow or
 * stopped it is: its number and start time identify it. Only where they cannot (another machine with the same home, a
 * system without /proc, a file of unknown content) the holder counts as gone after it has been observed for `patienceMs`.
 *
 * No process removes the file of another to make room: between the check and the removal it could have become the file of
 * a third, however short that is, for a process can be stopped anywhere. A process that finds only abandoned files
 * creates the next one, complete from the first moment, and checks again: of two that have created one each, at least
 * the second to check sees the other, and steps back. A holder removes what is abandoned before it releases its own.
 */
export class LockFile {
  readonly #path: string;
  readonly #patienceMs: number;
  #own: (Claim & { readonly tookOver: boolean }) | undefined;
  readonly #watchedSince = new Map<string, number>();

  constructor(path: string, patienceMs: number) {
    this.#path = path;
    this.#patienceMs = patienceMs;
  }

  /** Whether this process has the lock because the holder before it ended without releasing it. */
  get tookOver(): boolean {
    return this.#own?.tookOver === true;
  }

  /** Acquires the lock if it is free; whether it did. Throws as `fs` does where nothing can be written. */
  take(): boolean {
    makeDirectory(dirname(this.#path));
    const before = this.#claims();
    if (!before.every((claim) => this.#isAbandoned(claim))) return false;
    const turn = (before.at(-1)?.turn ?? 0) + 1;
    const text = newClaimText();
    if (!make(this.#pathOf(turn), text)) return false;
    const others = this.#claims().filter((claim) => claim.text !== text);
    if (!others.every((claim) => this.#isAbandoned(claim))) {
      this.#remove({ turn, text });
      return false;
    }
    this.#own = { turn, text, tookOver: before.length > 0 };
    return true;
  }

  /** Releases the lock, unless another process has taken it over in the meantime. */
  release(): void {
    const own = this.#own;
    if (own === undefined) return;
    this.#own = undefined;
    for (const claim of this.#claims())
      if (claim.turn < own.turn && this.#isAbandoned(claim)) this.#remove(claim);
    this.#removeRemains();
    this.#remove(own);
  }

  /** Waits for the lock. Throws the reason of `signal` when that aborts. */
  async acquire(signal: AbortSignal): Promise<void> {
    while (!this.take()) await this.pause(signal);
  }

  /** Waits until the next attempt is worth it. Throws the reason of `signal` when that aborts. */
  async pause(signal: AbortSignal): Promise<void> {
    await delay(retryMs, undefined, { signal }).catch(() => {});
    signal.throwIfAborted();
  }

  /** All claims, by turn. */
  #claims(): readonly Claim[] {
    const first = basename(this.#path);
    return this.#names()
      .flatMap((name) => {
        if (name === first) return [1];
        const number = name.startsWith(`${first}.`) ? name.slice(first.length + 1) : '';
        return /^[1-9]\d{0,8}$/.test(number) ? [Number(number)] : [];
      })
      .toSorted((a, b) => a - b)
      .flatMap((turn) => this.#claim(turn) ?? []);
  }

  #claim(turn: number): Claim | undefined {
    try {
      return { turn, text: readSmall(this.#pathOf(turn), 4096).bytes.toString() };
    } catch (error) {
      return reason(error) === 'ENOENT' ? undefined : { turn, text: undefined };
    }
  }

  #isAbandoned({ turn, text }: Claim): boolean {
    const holder = text === undefined ? 'unknown' : holderState(text);
    if (holder !== 'unknown') return holder === 'ended';
    const [id, now] = [`${turn} ${text}`, performance.now()];
    const since = this.#watchedSince.get(id) ?? now;
    this.#watchedSince.set(id, since);
    return now - since >= (text === '' ? emptyMs : this.#patienceMs);
  }

  #remove({ turn, text }: Claim): void {
    if (this.#claim(turn)?.text === text) rmSync(this.#pathOf(turn), { force: true });
  }

  /** Removes what processes left that were killed while they created a lock. */
  #removeRemains(): void {
    for (const name of this.#names()) {
      const [, pid] = /\.(\d+)\.[0-9a-f]{8}\.tmp$/.exec(name) ?? [];
      if (pid === undefined || !name.startsWith(`${basename(this.#path)}.`)) continue;
      if (!isThere(Number(pid))) rmSync(join(dirname(this.#path), name), { force: true });
    }
  }

  #names(): readonly string[] {
    try {
      return readdirSync(dirname(this.#path));
    } catch (error) {
      if (reason(error) === 'ENOENT') return [];
      throw error;
    }
  }

  #pathOf(turn: number): string {
    return turn === 1 ? this.#path : `${this.#path}.${turn}`;
  }
}

/** The content of a new claim. */
function newClaimText(): string {
  const id = randomBytes(8).toString('hex');
  return JSON.stringify({ ...ownIdentity(), id });
}

/** The errors of systems and file systems without hard links. */
const noLinks: readonly string[] = ['EPERM', 'EACCES', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'UNKNOWN'];

/** Creates a file with this content in one step; false when another process was first. */
function make(path: string, text: string): boolean {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`;
  writeFileSync(temporary, text, { flag: 'wx', mode: 0o600 });
  try {
    return succeeds(() => linkSync(temporary, path));
  } catch (error) {
    if (!noLinks.includes(reason(error))) throw error;
    return succeeds(() => writeFileSync(path, text, { flag: 'wx', mode: 0o600 }));
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Whether `link` created the new name; false when another process was first, or removed the temporary file as a leftover. */
function succeeds(link: () => void): boolean {
  try {
    link();
    return true;
  } catch (error) {
    if (['EEXIST', 'ENOENT'].includes(reason(error))) return false;
    throw error;
  }
}

function holderState(text: string): ProcessState {
  try {
    return processState(JSON.parse(text));
  } catch {
    return 'unknown';
  }
}
