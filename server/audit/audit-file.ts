import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import type { FileLock } from '../store/file-lock.ts';

/** A line of the audit, before it becomes a link of the chain. */
export type AuditFields = Readonly<Record<string, unknown>>;

const tailBytes = 64 * 1024;

/** A write that waits for the disk itself saves the flush after it, which is one more round trip to another thread. */
const isFlushedByWrite = process.platform === 'linux';
const { O_APPEND, O_CREAT, O_DSYNC, O_RDWR } = constants;
const openFlags = O_RDWR | O_APPEND | O_CREAT | (isFlushedByWrite ? O_DSYNC : 0);

/** The holder of the lock waits for the disk; a wait of more than this counts as a failure of our own write. */
const lockMs = 10_000;

/**
 * An append-only file of JSON lines. Each line has a number and the SHA-256 of the line before it, over restarts and
 * rotation, so that a line that was changed or taken out shows. Several processes can write it, one batch at a time: the
 * holder of the lock continues from the last line, whichever process wrote that.
 */
export class AuditFile {
  readonly #path: string;
  readonly #lock: FileLock | undefined;
  #handle: FileHandle | undefined;
  #last = { seq: 0, hash: '' };
  /** The file that is open, and its size in bytes when `last` was its last line. */
  #known = { dev: 0, ino: 0, size: 0 };
  #reopen = false;

  /** Without a lock no other process may write the file. */
  constructor(path: string, lock?: FileLock) {
    this.#path = path;
    this.#lock = lock;
  }

  /** Throws what `open` throws. */
  async open(): Promise<void> {
    await this.#locked(() => this.#current());
  }

  /** Resolves when the records are on the disk; when it rejects, some of them can be. One call at a time. */
  async append(records: readonly AuditFields[]): Promise<void> {
    await this.#locked(async () => {
      const handle = await this.#current();
      let last = this.#last;
      let text = '';
      for (const fields of records) {
        const line = jsonLine({ seq: last.seq + 1, prev: last.hash, ...fields });
        last = { seq: last.seq + 1, hash: hashOf(line) };
        text += `${line}\n`;
      }
      await handle.appendFile(text);
      if (!isFlushedByWrite) await handle.datasync();
      this.#last = last;
      this.#known.size += text.length;
    });
  }

  /** Continues in a file of the same name: rotation can have moved the old one away. */
  reopen(): void {
    this.#reopen = true;
  }

  async close(): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
  }

  /** Does `work` while no other process writes. */
  async #locked(work: () => Promise<unknown>): Promise<void> {
    const release = await this.#lock?.acquire(lockMs);
    try {
      await work();
    } catch (error) {
      // Half a batch can be in the file; opening it again finds the end of the chain.
      await this.close().catch(() => {});
      throw error;
    } finally {
      release?.();
    }
  }

  /** The file of that name, open, with its last line read. */
  async #current(): Promise<FileHandle> {
    const handle = this.#handle;
    if (handle !== undefined) {
      const found = await stat(this.#path).catch(() => undefined);
      const { dev, ino, size } = this.#known;
      // Otherwise another process continues in a new file after rotation.
      const isOurs = found === undefined || (found.ino === ino && found.dev === dev);
      if (isOurs && !this.#reopen && found?.size === size) return handle;
      await this.#readLast(handle);
      if (isOurs && !this.#reopen) return handle;
      await this.close();
    }
    this.#reopen = false;
    this.#handle = await open(this.#path, openFlags, 0o600);
    this.#known.size = -1;
    await this.#readLast(this.#handle);
    return this.#handle;
  }

  /** Reads the last line, unless it is the one that is known. A new file continues the chain of the one before. */
  async #readLast(handle: FileHandle): Promise<void> {
    const stats = await handle.stat();
    const isKnown = stats.size === this.#known.size;
    this.#known = { dev: stats.dev, ino: stats.ino, size: stats.size };
    if (!stats.isFile() || isKnown) return;
    const start = Math.max(0, stats.size - tailBytes);
    const { buffer, bytesRead } = await handle.read(
      Buffer.alloc(stats.size - start),
      0,
      stats.size - start,
      start,
    );
    const tail = buffer.toString('utf8', 0, bytesRead);
    // A line that was cut off by a crash stays in the chain, as a line of its own.
    if (tail !== '' && !tail.endsWith('\n')) {
      await handle.appendFile('\n');
      this.#known.size++;
    }
    const lastLine = tail.replace(/\n$/, '').split('\n').at(-1) ?? '';
    if (lastLine !== '') this.#last = { seq: seqOf(lastLine) ?? this.#last.seq, hash: hashOf(lastLine) };
  }
}

/** Yields each break in the chain of a file's lines: the number of the line, from 1 on, and the reason. */
export async function* brokenLinks(
  lines: AsyncIterable<string>,
): AsyncGenerator<{ line: number; why: string }> {
  let number = 0;
  let before: { seq: number | undefined; hash: string } | undefined;
  for await (const line of lines) {
    number++;
    const fields = parseLine(line);
    if (!fields) yield { line: number, why: 'not a record (cut off by a crash, or changed)' };
    else if (before && fields.prev !== before.hash)
      yield { line: number, why: 'the line before it was changed, added or removed' };
    else if (before?.seq !== undefined && fields.seq !== before.seq + 1)
      yield { line: number, why: 'its number does not follow that of the line before' };
    before = { seq: fields?.seq, hash: hashOf(line) };
  }
}

function hashOf(line: string): string {
  return createHash('sha256').update(line).digest('base64url');
}

function seqOf(line: string): number | undefined {
  return parseLine(line)?.seq;
}

function parseLine(line: string): { seq: number; prev: string } | undefined {
  try {
    const { seq, prev } = JSON.parse(line) as { seq: unknown; prev: unknown };
    return typeof seq === 'number' && typeof prev === 'string' ? { seq, prev } : undefined;
  } catch {
    return undefined;
  }
}

/** JSON in printable ASCII only, so that a terminal that shows it receives no control sequences. */
function jsonLine(fields: AuditFields): string {
  return JSON.stringify(fields).replaceAll(
    /[^\x20-\x7e]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
