import { rmSync, statSync } from 'node:fs';

/** The files that a database of SQLite in WAL mode consists of, by what follows its path. */
const suffixes = ['', '-wal', '-shm'] as const;
type Suffix = (typeof suffixes)[number];

/** What has happened to the files of an open database since it was opened. */
export type FileChange = 'none' | 'replaced' | 'removed';

/**
 * The files of an open database as they were found beside its path. SQLite goes on with the files that it has open: one
 * that has been moved away, removed or put in their place is another one for every process that opens the path later.
 */
export class OpenFiles {
  readonly #file: string;
  readonly #known = new Map<Suffix, string>();

  /** To be made after the database was opened. `before`: `fileIdentity` of its path from before that. */
  constructor(file: string, before: string | undefined) {
    this.#file = file;
    const now = fileIdentity(file);
    // Replaced while it was being opened: the next look finds that it is not the one from before.
    const known = before ?? now;
    if (known !== undefined) this.#known.set('', known);
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
    return 'none';
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
