import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readSmall, reason } from './files.ts';
import { hasEnded, isThere, ownLife } from './process-identity.ts';

const lookMs = 100;
/** Only where there are no hard links can a lock be empty, for microseconds; one that stays so has lost its maker. */
const emptyMs = 800;

/** One lock file, as seen from outside. */
interface Claim {
  /** 1 for `path` itself; each one who takes over from somebody that is gone makes the next. */
  readonly turn: number;
  /** Whose it is; no two claims have the same. Undefined for what cannot be read. */
  readonly text: string | undefined;
}

/**
 * A lock between processes: a file that only one of them can make, with the process in it. A holder that dies leaves
 * it behind, and others see that at the next look. A holder elsewhere (another machine with the same home) or one that
 * has stopped counts as gone when it has been watched for `pingAfterMs`.
 *
 * Nobody takes away the file of another to make room: between looking and taking away it could have become somebody
 * else's, however short that is, for a process may be stopped anywhere. Who finds only abandoned files makes the next
 * one, complete from the first moment, and looks again: of two that have made one each, at least the second to look
 * sees the other, and steps back. A holder takes away what is abandoned before it gives back its own.
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

  /** Whether the lock is ours because the one who had it went away without giving it back. */
  get tookOver(): boolean {
    return this.#own?.tookOver === true;
  }

  /** Takes the lock if nobody has it; says whether it did. Throws as `fs` does where nothing can be written. */
  take(): boolean {
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    const before = this.#claims();
    if (!before.every((claim) => this.#isAbandoned(claim))) return false;
    const turn = (before.at(-1)?.turn ?? 0) + 1;
    const text = ourselves();
    if (!make(this.#pathOf(turn), text)) return false;
    const others = this.#claims().filter((claim) => claim.text !== text);
    if (!others.every((claim) => this.#isAbandoned(claim))) {
      this.#remove({ turn, text });
      return false;
    }
    this.#own = { turn, text, tookOver: before.length > 0 };
    return true;
  }

  /** Gives the lock back, unless somebody has passed us over in the meantime. */
  release(): void {
    const own = this.#own;
    if (own === undefined) return;
    this.#own = undefined;
    for (const claim of this.#claims())
      if (claim.turn < own.turn && this.#isAbandoned(claim)) this.#remove(claim);
    this.#removeRemains();
    this.#remove(own);
  }

  /** Waits until the lock is ours. Throws the reason of `signal` when that aborts. */
  async acquire(signal: AbortSignal): Promise<void> {
    while (!this.take()) await this.pause(signal);
  }

  /** Until it is worth looking again. Throws the reason of `signal` when that aborts. */
  async pause(signal: AbortSignal): Promise<void> {
    await delay(lookMs, undefined, { signal }).catch(() => {});
    signal.throwIfAborted();
  }

  /** All that there are, by turn. */
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
    if (text !== undefined && isGone(text)) return true;
    const [id, now] = [`${turn} ${text}`, performance.now()];
    const since = this.#watchedSince.get(id) ?? now;
    this.#watchedSince.set(id, since);
    return now - since >= (text === '' ? emptyMs : this.#patienceMs);
  }

  #remove({ turn, text }: Claim): void {
    if (this.#claim(turn)?.text === text) rmSync(this.#pathOf(turn), { force: true });
  }

  /** Takes away what processes that were killed while they made a lock have left. */
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

/** What we write into a lock. */
function ourselves(): string {
  const id = randomBytes(8).toString('hex');
  return JSON.stringify({ ...ownLife(), id });
}

/** Systems and file systems without hard links say so in different ways. */
const noLinks: readonly string[] = ['EPERM', 'EACCES', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'UNKNOWN'];

/** Makes a file with this content in one step; says whether it did, and not somebody else. */
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

/** Whether `link` made the new name, or another process was first, or took what was to be linked for remains. */
function succeeds(link: () => void): boolean {
  try {
    link();
    return true;
  } catch (error) {
    if (['EEXIST', 'ENOENT'].includes(reason(error))) return false;
    throw error;
  }
}

/** Whether the process that made a lock has ended. */
function isGone(text: string): boolean {
  try {
    return hasEnded(JSON.parse(text));
  } catch {
    return false;
  }
}
