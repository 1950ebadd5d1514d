import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';

/** A line of the audit, before it gets its place in the chain. */
export type AuditFields = Readonly<Record<string, unknown>>;

export interface AuditLogOptions {
  /** Told when a write fails, and when writing works again. */
  readonly onState?: (failure: Error | undefined) => void;
  /** Told of records that had to be given up. */
  readonly onLost?: (count: number) => void;
}

interface Waiting {
  readonly fields: AuditFields;
  /** Absent for records that are kept and written when writing works again. */
  readonly settle?: (error?: Error) => void;
}

/** Records that wait for a disk that is full or does not answer; beyond that they are counted as lost. */
const maxKept = 10_000;
const retryMs = 1000;
const tailBytes = 64 * 1024;

/**
 * An append-only file of JSON lines. Each line has a number and the SHA-256 of the line before it, over restarts and
 * rotation, so that a line that was changed or taken out shows. Records that come together are written and flushed
 * together.
 */
export class AuditLog {
  readonly #file: string;
  readonly #options: AuditLogOptions;
  #handle: FileHandle | undefined;
  #last: { seq: number; hash: string } | undefined;
  #waiting: Waiting[] = [];
  #kept: Waiting[] = [];
  #running: Promise<void> | undefined;
  #failure: Error | undefined;
  #retry: NodeJS.Timeout | undefined;
  #reopen = false;

  constructor(file: string, options: AuditLogOptions = {}) {
    this.#file = file;
    this.#options = options;
  }

  /** Why the last write failed, or undefined when it did not. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Opens the file, so that a path that cannot be written is known at the start. Throws what `open` throws. */
  async start(): Promise<void> {
    await this.#open();
  }

  /** Resolves when the record is on the disk; rejects when it is not and will not be. */
  append(fields: AuditFields): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ fields, settle: (error) => (error ? reject(error) : resolve()) });
      this.#run();
    });
  }

  /** Writes the record when that is possible; it survives a full disk, within bounds. */
  appendEventually(fields: AuditFields): void {
    if (this.#waiting.length >= maxKept) return this.#options.onLost?.(1);
    this.#waiting.push({ fields });
    this.#run();
  }

  /** Goes on in a file of the same name: the old one may have been moved away by rotation. */
  reopen(): void {
    this.#reopen = true;
  }

  /** Writes what waits, as far as that is possible, and closes the file. */
  async close(): Promise<void> {
    while (this.#running) await this.#running;
    if (this.#kept.length > 0) await this.#flush(this.#takeKept());
    clearTimeout(this.#retry);
    if (this.#kept.length > 0) this.#options.onLost?.(this.#kept.length);
    await this.#handle?.close();
    this.#handle = undefined;
  }

  #run(): void {
    this.#running ??= this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      // One turn of the event loop, so that what comes together is flushed together.
      await new Promise((resolve) => setImmediate(resolve));
      const batch = [...this.#takeKept(), ...this.#waiting];
      this.#waiting = [];
      await this.#flush(batch);
    }
    // In the same turn as the last look at what waits: whatever comes later starts a new run.
    this.#running = undefined;
  }

  async #flush(batch: readonly Waiting[]): Promise<void> {
    try {
      if (this.#reopen) await this.#closeQuietly();
      this.#reopen = false;
      const handle = this.#handle ?? (await this.#open());
      let last = this.#last!;
      let text = '';
      for (const { fields } of batch) {
        const line = jsonLine({ seq: last.seq + 1, prev: last.hash, ...fields });
        last = { seq: last.seq + 1, hash: hashOf(line) };
        text += `${line}\n`;
      }
      await handle.appendFile(text);
      await handle.datasync();
      this.#last = last;
      this.#succeeded();
      for (const { settle } of batch) settle?.();
    } catch (error) {
      await this.#failed(error as Error, batch);
    }
  }

  #succeeded(): void {
    if (!this.#failure) return;
    this.#failure = undefined;
    this.#options.onState?.(undefined);
  }

  async #failed(error: Error, batch: readonly Waiting[]): Promise<void> {
    if (!this.#failure) this.#options.onState?.(error);
    this.#failure = error;
    // Half a batch may be in the file; opening it again finds where the chain stands.
    await this.#closeQuietly();
    for (const { settle } of batch) settle?.(error);
    const keep = [...batch.filter(({ settle }) => !settle), ...this.#kept];
    if (keep.length > maxKept) this.#options.onLost?.(keep.length - maxKept);
    this.#kept = keep.slice(0, maxKept);
    if (this.#kept.length === 0 || this.#retry) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#waiting.unshift(...this.#takeKept());
      this.#run();
    }, retryMs);
    this.#retry.unref();
  }

  #takeKept(): Waiting[] {
    const kept = this.#kept;
    this.#kept = [];
    return kept;
  }

  async #open(): Promise<FileHandle> {
    const handle = await open(this.#file, 'a+', 0o600);
    try {
      const { size } = await handle.stat();
      const start = Math.max(0, size - tailBytes);
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - start), 0, size - start, start);
      const tail = buffer.toString('utf8', 0, bytesRead);
      // A line that was cut off by a crash keeps its place in the chain, as a line of its own.
      if (tail !== '' && !tail.endsWith('\n')) await handle.appendFile('\n');
      const lastLine = tail.replace(/\n$/, '').split('\n').at(-1) ?? '';
      if (lastLine !== '')
        this.#last = { seq: seqOf(lastLine) ?? this.#last?.seq ?? 0, hash: hashOf(lastLine) };
      this.#last ??= { seq: 0, hash: '' };
      this.#handle = handle;
      return handle;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async #closeQuietly(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close().catch(() => {});
  }
}

/** What is wrong with the chain of a file's lines: the number of the line and why, or nothing. */
export async function* brokenLinks(
  lines: AsyncIterable<string>,
): AsyncGenerator<{ line: number; why: string }> {
  let number = 0;
  let before: { seq: number | undefined; hash: string } | undefined;
  for await (const line of lines) {
    number++;
    const fields = parseLine(line);
    if (!fields) yield { line: number, why: 'it is not a record (cut off by a crash, or changed)' };
    else if (before && fields.prev !== before.hash)
      yield { line: number, why: 'the line before it is another one' };
    else if (before?.seq !== undefined && fields.seq !== before.seq + 1)
      yield { line: number, why: 'its number does not follow' };
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

/** JSON in printable ASCII only, so that no terminal that shows it can be talked into anything. */
function jsonLine(fields: AuditFields): string {
  return JSON.stringify(fields).replaceAll(
    /[^\x20-\x7e]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
