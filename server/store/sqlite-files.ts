import { fstatSync, readSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { sqlite } from './sqlite.ts';

/** The files that a database of SQLite in WAL mode consists of, by what follows its path. */
const suffixes = ['', '-wal', '-shm'] as const;
type Suffix = (typeof suffixes)[number];

/** What has happened to the files of an open database since it was opened. */
export type FileChange = 'none' | 'replaced' | 'removed' | 'overwriting' | 'overwritten';

/**
 * The files of an open database as they were found beside its path. SQLite goes on with the files that it has open: one
 * that has been moved away, removed or put in their place is another one for every process that opens the path later.
 */
export class OpenFiles {
  readonly #file: string;
  readonly #known = new Map<Suffix, string>();
  readonly #main: MainFile;

  /** To be made after the database was opened. `before`: `fileIdentity` of its path from before that. */
  constructor(file: string, before: string | undefined) {
    this.#file = file;
    const now = fileIdentity(file);
    // Replaced while it was being opened: the next look finds that it is not the one from before.
    const known = before ?? now;
    if (known !== undefined) this.#known.set('', known);
    this.#main = new MainFile(file);
    this.look();
  }

  /** Compares them with what is at the path now. Costs three calls of the kernel. */
  look(): FileChange {
    const main = fileIdentity(this.#file);
    if (main === undefined) return 'removed';
    if (main !== this.#known.get('')) return 'replaced';
    for (const suffix of ['-wal', '-shm'] as const) {
      const known = this.#known.get(suffix);
      const now = fileIdentity(`${this.#file}${suffix}`);
      // SQLite makes them with the first access, and removes them with its last connection only.
      if (known === undefined && now !== undefined) this.#known.set(suffix, now);
      else if (now !== known) return 'replaced';
    }
    return this.#main.look(this.#known.get('-shm'));
  }

  /**
   * Makes the log of a database that was overwritten worthless, for the processes too that have it open: none of them may
   * play it into what is there now, not even with its last breath.
   */
  dropLog(): void {
    for (const suffix of ['-wal', '-shm'] as const) {
      const path = `${this.#file}${suffix}`;
      if (!this.#known.has(suffix) || fileIdentity(path) !== this.#known.get(suffix)) continue;
      if (suffix === '-wal') truncateSync(path, 0);
      rmSync(path, { force: true });
    }
  }

  /**
   * Removes the log that the database before left behind at the path of the one that has replaced it: SQLite would
   * play it into that one. A log that came with the new file is not touched.
   */
  removeStaleLog(): void {
    if (fileIdentity(this.#file) === this.#known.get('')) return;
    for (const suffix of ['-wal', '-shm'] as const) {
      const path = `${this.#file}${suffix}`;
      if (this.#known.has(suffix) && fileIdentity(path) === this.#known.get(suffix))
        rmSync(path, { force: true });
    }
  }
}

/** The file at the path: the same for as long as it is the same file. Undefined when there is none. */
export function fileIdentity(path: string): string | undefined {
  try {
    const found = statSync(path, { bigint: true, throwIfNoEntry: false });
    return found && `${found.dev}:${found.ino}`;
  } catch {
    // Its folder cannot be looked into: as good as gone.
    return undefined;
  }
}

/** Where the index of the log says how far the log was copied into the database (https://sqlite.org/walformat.html, 2.3). */
const salts = { from: 32, to: 40 };
const backfilled = { from: 96, to: 100 };
const backfillBegun = { from: 128, to: 132 };

/** What is known about the database without its log. */
interface MainState {
  /** Changes with each write to the file. */
  readonly stamp: string;
  /** Of the log: SQLite only writes to the database when this changes too. */
  readonly progress: string;
  /** What the database has in it. */
  readonly content: string;
}

/**
 * The main file of an open database in WAL mode. SQLite writes to it when it copies its log into it, and at no other time:
 * any other write is another program's, such as a backup that is copied over the open file. Only Linux lets it be seen;
 * elsewhere nothing is found.
 */
class MainFile {
  readonly #file: string;
  #known: MainState | undefined;
  /** The stamp of a write that is not SQLite's, at the last look. */
  #suspect: string | undefined;
  #descriptor: number | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  /**
   * To be called while the file has its name. `index`: the identity of the log's index, as `fileIdentity` gives it. A
   * write of another program is `overwriting` until it has been quiet from one look to the next.
   */
  look(index: string | undefined): 'none' | 'overwriting' | 'overwritten' {
    const progress = index === undefined ? undefined : this.#readProgress(index);
    const stamp = stampOf(this.#file);
    if (progress === undefined || stamp === undefined) return 'none';
    const known = this.#known;
    if (known?.stamp === stamp) {
      this.#known = { ...known, progress };
      this.#suspect = undefined;
      return 'none';
    }
    if (!known || known.progress !== progress) return this.#accept({ stamp, progress });
    const isQuiet = this.#suspect === stamp;
    this.#suspect = stamp;
    if (!isQuiet) return 'overwriting';
    // Touched only.
    if (contentOf(this.#file) === known.content) return this.#accept({ stamp, progress });
    return 'overwritten';
  }

  #accept(state: Pick<MainState, 'stamp' | 'progress'>): 'none' {
    this.#known = { ...state, content: contentOf(this.#file) };
    this.#suspect = undefined;
    return 'none';
  }

  /** Undefined when SQLite does not have the index open, or that cannot be seen. */
  #readProgress(index: string): string | undefined {
    if (this.#descriptor === undefined || identityOf(this.#descriptor) !== index)
      this.#descriptor = descriptors().find((each) => identityOf(each) === index);
    if (this.#descriptor === undefined) return undefined;
    const head = Buffer.alloc(backfillBegun.to);
    // SQLite's own descriptor: to close another one of the same file would drop the locks of this process.
    if (readSync(this.#descriptor, head, 0, head.length, 0) < head.length) return undefined;
    return [salts, backfilled, backfillBegun].map(({ from, to }) => head.toString('hex', from, to)).join();
  }
}

function stampOf(file: string): string | undefined {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false });
  return found && `${found.size}:${found.mtimeNs}`;
}

function descriptors(): readonly number[] {
  try {
    return readdirSync('/proc/self/fd').map(Number);
  } catch {
    return [];
  }
}

function identityOf(descriptor: number): string | undefined {
  try {
    const { dev, ino } = fstatSync(descriptor, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** How many changes there were in each table, by the main file alone; a text of its own when it cannot be read. */
function contentOf(file: string): string {
  const url = pathToFileURL(file);
  // Its log is not read.
  url.search = 'immutable=1';
  const { DatabaseSync } = sqlite();
  try {
    // To SQLite that is a database without tables, as a new one is before its log is copied.
    if (statSync(file).size === 0) return 'empty';
    const database = new DatabaseSync(url, { readOnly: true });
    try {
      return JSON.stringify(database.prepare('SELECT name, count FROM changes ORDER BY name').all());
    } finally {
      database.close();
    }
  } catch (error) {
    return (error as Error).message;
  }
}
