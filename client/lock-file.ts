import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readSmall, reason } from './files.ts';

const lookMs = 100;
/** Between making a lock and writing into it lie microseconds; one that stays empty has lost its maker. */
const emptyMs = 800;

/** Whose a lock is: nobody's, a living process's, or that of one that is gone. */
export type LockState = 'free' | 'held' | 'abandoned';

/** One holding of a lock, as seen from outside. */
interface Sighting {
  /** Differs between two holdings, even by the same process. */
  readonly id: string;
  readonly text: string;
}

/**
 * A lock between processes: a file that only one of them can make, with the process in it. A holder that dies leaves
 * it behind, and others see that at the next look. A holder elsewhere (another machine with the same home) or one that
 * has stopped counts as gone when it has been watched for `patienceMs`.
 */
export class LockFile {
  readonly #path: string;
  readonly #patienceMs: number;
  #own: string | undefined;
  #watched: { readonly id: string; readonly since: number } | undefined;

  constructor(path: string, patienceMs: number) {
    this.#path = path;
    this.#patienceMs = patienceMs;
  }

  /** Takes the lock if it is free; says whether it did. Throws as `fs` does where nothing can be written. */
  take(): boolean {
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    let file;
    try {
      file = openSync(this.#path, 'wx', 0o600);
    } catch (error) {
      if (reason(error) === 'EEXIST') return false;
      throw error;
    }
    try {
      writeSync(file, JSON.stringify({ host: hostname(), pid: process.pid, started: startOf(process.pid) }));
    } finally {
      closeSync(file);
    }
    this.#own = this.#sight()?.id;
    return true;
  }

  /** Gives the lock back, unless somebody has taken it over in the meantime. */
  release(): void {
    if (this.#own !== undefined && this.#sight()?.id === this.#own) rmSync(this.#path, { force: true });
    this.#own = undefined;
  }

  /** Looks whose it is now. */
  look(): LockState {
    const seen = this.#sight();
    if (seen === undefined) return 'free';
    const now = performance.now();
    if (this.#watched?.id !== seen.id) this.#watched = { id: seen.id, since: now };
    const limit = seen.text === '' ? emptyMs : this.#patienceMs;
    return now - this.#watched.since >= limit || isGone(seen.text) ? 'abandoned' : 'held';
  }

  /** Takes away the abandoned lock that `look` saw last; of several that try at once, one does, and no newer lock goes. */
  clear(): void {
    const { id } = this.#watched ?? {};
    if (id === undefined) return;
    // Who holds this mark is the only one to remove the lock, and looks again first: it may be another one by now.
    const mark = `${this.#path}.clearing`;
    try {
      closeSync(openSync(mark, 'wx', 0o600));
    } catch (error) {
      if (reason(error) !== 'EEXIST') throw error;
      if (isOld(mark)) rmSync(mark, { force: true });
      return;
    }
    try {
      if (this.#sight()?.id === id) rmSync(this.#path, { force: true });
    } finally {
      rmSync(mark, { force: true });
    }
  }

  /** Waits until the lock is ours. Throws the reason of `signal` when that aborts. */
  async acquire(signal: AbortSignal): Promise<void> {
    while (!this.take()) {
      if (this.look() === 'abandoned') this.clear();
      else await this.pause(signal);
    }
  }

  /** Until it is worth looking again. Throws the reason of `signal` when that aborts. */
  async pause(signal: AbortSignal): Promise<void> {
    await delay(lookMs, undefined, { signal }).catch(() => {});
    signal.throwIfAborted();
  }

  #sight(): Sighting | undefined {
    try {
      const { bytes, stats } = readSmall(this.#path, 4096);
      return { id: `${stats.ino}.${stats.birthtimeMs}.${bytes.toString()}`, text: bytes.toString() };
    } catch {
      return undefined;
    }
  }
}

/** Whether the process that made a lock has ended. One of another machine cannot be asked. */
function isGone(text: string): boolean {
  let holder: unknown;
  try {
    holder = JSON.parse(text);
  } catch {
    return false;
  }
  const { host, pid, started } = (holder ?? {}) as Readonly<Record<string, unknown>>;
  if (host !== hostname() || typeof pid !== 'number') return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return reason(error) === 'ESRCH';
  }
  // The number may belong to another process by now.
  return typeof started === 'string' && startOf(pid) !== started;
}

/** When a process began, in the kernel's own words, where it tells. */
function startOf(pid: number): string | undefined {
  try {
    // After the name, which may hold anything, in brackets: proc(5), field 22.
    return readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ')[19];
  } catch {
    return undefined;
  }
}

/** A mark is held for microseconds; one that is there for longer has lost its maker. */
function isOld(path: string): boolean {
  try {
    return Date.now() - statSync(path).mtimeMs > emptyMs;
  } catch {
    return false;
  }
}
