import {
  closeSync,
  fdatasync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { attempt, auditNote, jsonLine, later, nextLink, readTail } from './audit-chain.ts';
import type { AuditFields, ChainEnd } from './audit-chain.ts';
import { AuditHead } from './audit-head.ts';
import { AuditLock } from './audit-lock.ts';
import type { AuditSink } from './audit-sink.ts';
import { describeChange, isSameFile, openAuditFile } from './file-change.ts';
import type { AuditFileChange } from './file-change.ts';

const synchronize = promisify(fdatasync);

/** The lock is held for microseconds: a process that has it for longer is stopped, or its disk is. */
const lockMs = 5000;
/** A file that was moved away is written for so long, unless a signal tells that this was rotation. */
const movedMs = 10_000;
/** How often the end of the chain is noted, at most. */
const noteMs = 250;
/** How far back a record is looked for that another process can have written. */
const lookBackBytes = 8 * 1024 * 1024;

export interface AuditFileOptions {
  /** The file of the gateway's store: processes with the same one write the audit together, others are refused. */
  readonly store?: string;
  /** Called when something was done to the file from outside. */
  readonly onChange?: (change: AuditFileChange) => void;
}

/**
 * An append-only file of JSON lines. Each line has a number and the SHA-256 of the line before it, over restarts and
 * rotation, so that a line that was changed or taken out shows. Before each write it is looked at whether the file still
 * has its name. Several processes of a gateway can write it: whichever has the lock continues from the last line. The
 * lock is held for one synchronous write to the page cache; the wait for the disk comes after it.
 */
export class AuditFile implements AuditSink {
  readonly #path: string;
  readonly #store: string;
  readonly #onChange: (change: AuditFileChange) => void;
  readonly #head: AuditHead;
  #lock: AuditLock | undefined;
  #hasBeenOpen = false;
  #fd: number | undefined;
  #end: ChainEnd = { seq: 0, hash: '' };
  /** The open file, and its size in bytes when `#end` was its last line. */
  #known = { dev: 0, ino: 0, size: 0, isFile: true };
  #reopen = false;
  #movedAt: number | undefined;
  #notedAt = 0;
  #noteTimer: NodeJS.Timeout | undefined;
  /** Notes of changes, until they are written. */
  #notes: AuditFields[] = [];

  constructor(path: string, options: AuditFileOptions = {}) {
    this.#path = path;
    this.#store = resolve(options.store ?? path);
    this.#onChange = options.onChange ?? (() => {});
    this.#head = new AuditHead(path);
  }

  /** Rejects with what `open` throws, and when a running gateway with another store has the audit. */
  async open(): Promise<void> {
    // A device has no chain to share.
    if (statSync(this.#path, { throwIfNoEntry: false })?.isFile() ?? true) {
      this.#lock = await AuditLock.open(this.#path, {
        store: this.#store,
        head: this.#head,
        onTightened: (path) => this.#onChange({ how: 'tightened', path }),
      });
    }
    await this.#locked(() => this.#write([]));
    this.#hasBeenOpen = true;
  }

  /** Resolves when the records are on the disk; when it rejects, none of them is in the file as far as that can be undone. One call at a time. */
  async append(records: readonly AuditFields[]): Promise<void> {
    const written = await this.#locked(() => this.#write(records));
    if (!written || !this.#known.isFile) return;
    await synchronize(written.fd).catch(async (error: unknown) => {
      await this.#locked(() => this.#undo(written)).catch(() => {});
      throw error;
    });
  }

  /** Appends those that are not among the last records of the file: another process can have written them, and died. */
  async appendMissing(records: readonly AuditFields[]): Promise<void> {
    const texts = new Map(records.map((fields) => [jsonLine(fields).slice(1), fields]));
    await this.#locked(() => {
      this.#write([]);
      const { size, isFile } = this.#known;
      if (!isFile) return;
      const start = Math.max(0, size - lookBackBytes);
      const bytes = Buffer.alloc(size - start);
      readSync(this.#fd!, bytes, 0, bytes.length, start);
      for (const line of bytes.toString('latin1').split('\n'))
        texts.delete(line.replace(/^\{"seq":\d+,"prev":"[\w-]*",/, ''));
    });
    if (texts.size > 0) await this.append([...texts.values()]);
  }

  /** Continues in a file of the same name: rotation has moved the old one away. */
  reopen(): void {
    this.#reopen = true;
  }

  /** Whether the file has lost its name, or another one has it. */
  get isDisplaced(): boolean {
    if (this.#fd === undefined) return false;
    try {
      const there = statSync(this.#path, { throwIfNoEntry: false });
      return there === undefined || !isSameFile(there, this.#known);
    } catch {
      return true;
    }
  }

  async close(): Promise<void> {
    if (this.#noteTimer) await this.#locked(() => this.#noteNow()).catch(() => {});
    this.#closeFile();
    this.#lock?.close();
  }

  #closeFile(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Does `work` while no other process writes. Rejects when another one has the lock for longer than that takes. */
  async #locked<T>(work: () => T): Promise<T> {
    const deadline = performance.now() + lockMs;
    for (;;) {
      const release = this.#tryAcquire();
      if (release) {
        try {
          return work();
        } catch (error) {
          // Opening it again finds the end of the chain.
          this.#closeFile();
          throw error;
        } finally {
          release();
        }
      }
      if (performance.now() > deadline)
        throw new Error(`another process has held the lock of the audit for ${lockMs / 1000} seconds`);
      await delay(1);
    }
  }

  #tryAcquire(): (() => void) | undefined {
    const folder = dirname(resolve(this.#path));
    // It was there when the gateway began.
    if (this.#hasBeenOpen && !statSync(folder, { throwIfNoEntry: false })) mkdirSync(folder, { mode: 0o700 });
    return this.#lock ? this.#lock.tryAcquire() : () => {};
  }

  /** Writes to the page cache, all of it or nothing; the lock is held. Returns what `#undo` needs, or nothing if nothing was written. */
  #write(
    records: readonly AuditFields[],
  ): { fd: number; end: ChainEnd; from: number; to: number } | undefined {
    const { newline, notes } = this.#ensureOpen();
    const fd = this.#fd!;
    const before = { end: this.#end, from: this.#known.size };
    let end = this.#end;
    let text = newline;
    for (const fields of [...notes, ...this.#notes, ...records]) {
      const next = nextLink(end, fields);
      text += `${next.line}\n`;
      end = next.end;
    }
    if (text === '') return undefined;
    const bytes = Buffer.from(text, 'latin1');
    try {
      for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
    } catch (error) {
      // No half of a record stays on a disk that is full.
      if (this.#known.isFile) attempt(() => ftruncateSync(fd, before.from));
      throw error;
    }
    this.#notes = [];
    this.#end = end;
    if (this.#known.isFile) this.#known.size += bytes.length;
    this.#noteEnd();
    return { fd, ...before, to: this.#known.size };
  }

  /** What the disk has refused is not there, unless another process has continued from it. */
  #undo({ fd, end, from, to }: { fd: number; end: ChainEnd; from: number; to: number }): void {
    if (fd !== this.#fd || fstatSync(fd).size !== to) return;
    ftruncateSync(fd, from);
    this.#end = end;
    this.#known.size = from;
    attempt(() =>
      this.#head.write({ ...end, dev: this.#known.dev, ino: this.#known.ino, store: this.#store }),
    );
  }

  /** Notes the end of the chain beside the file, now and then: that is a change of another file, and the disk is busy. */
  #noteEnd(): void {
    if (performance.now() - this.#notedAt >= noteMs) return this.#noteNow();
    this.#noteTimer ??= setTimeout(
      () => void this.#locked(() => this.#noteNow()).catch(() => {}),
      noteMs,
    ).unref();
  }

  #noteNow(): void {
    clearTimeout(this.#noteTimer);
    this.#noteTimer = undefined;
    this.#notedAt = performance.now();
    const { dev, ino, isFile } = this.#known;
    if (!isFile || (this.#head.read()?.seq ?? 0) > this.#end.seq) return;
    // The chain itself does not need it.
    attempt(() => this.#head.write({ ...this.#end, dev, ino, store: this.#store }));
  }

  /** Opens the file that has the name now, and finds the end of the chain. Gives what has to be written first. */
  #ensureOpen(): { newline: string; notes: readonly AuditFields[] } {
    const fd = this.#fd;
    if (fd !== undefined) {
      const own = fstatSync(fd);
      const there = statSync(this.#path, { throwIfNoEntry: false });
      const isOurs = there !== undefined && isSameFile(there, own);
      if (isOurs || this.#isJustMoved(own, there)) {
        if (isOurs) [this.#reopen, this.#movedAt] = [false, undefined];
        if (!this.#known.isFile || own.size === this.#known.size) return { newline: '', notes: [] };
        if (own.size < this.#known.size) this.#noteChange('truncated', own);
        return this.#continue(fd, own);
      }
      this.#closeDisplaced(fd, own, there);
    }
    this.#fd = openAuditFile(this.#path, (change) => this.#onChange(change));
    [this.#reopen, this.#movedAt] = [false, undefined];
    return this.#continue(this.#fd, fstatSync(this.#fd));
  }

  /** Rotation moves the file first, and sends its signal after that. */
  #isJustMoved(own: Stats, there: Stats | undefined): boolean {
    if (there !== undefined || own.nlink === 0 || this.#reopen) return false;
    this.#movedAt ??= performance.now();
    return performance.now() - this.#movedAt < movedMs;
  }

  /** Reads what other processes have written into a file that has lost its name, and closes it. */
  #closeDisplaced(fd: number, own: Stats, there: Stats | undefined): void {
    if (this.#known.isFile && own.size !== this.#known.size)
      this.#end = later(this.#end, readTail(fd, own.size).end);
    if (this.#noteTimer) this.#noteNow();
    const noted = this.#head.read();
    const hadLastRecord = noted === undefined || isSameFile(noted, own);
    const how = describeChange(own, there);
    if (how !== undefined && hadLastRecord && !this.#reopen) this.#noteChange(how, own);
    this.#closeFile();
  }

  #noteChange(how: 'moved' | 'removed' | 'replaced' | 'truncated', own: Stats): void {
    this.#onChange({ how, path: this.#path });
    this.#notes.push(
      auditNote(
        how,
        how === 'truncated' ? { bytes: this.#known.size, left: own.size } : { after: this.#end.seq },
      ),
    );
  }

  /** Finds the end of the chain: in the file, or where a new one has to continue. */
  #continue(fd: number, stats: Stats): { newline: string; notes: readonly AuditFields[] } {
    const isFile = stats.isFile();
    this.#known = { dev: stats.dev, ino: stats.ino, size: stats.size, isFile };
    if (!isFile) return { newline: '', notes: [] };
    const { end: found, torn } = readTail(fd, stats.size);
    const expected = later(later(this.#end, this.#head.read()), found);
    const notes: AuditFields[] = [];
    if (found && expected.hash !== found.hash) {
      this.#onChange({ how: 'gap', path: this.#path });
      notes.push(auditNote('gap', { expected, found }));
    }
    this.#end = { seq: expected.seq, hash: found?.hash ?? expected.hash };
    if (!torn) return { newline: '', notes };
    this.#onChange({ how: 'torn', path: this.#path });
    const { bytes, sha256, text, endsWithNewline } = torn;
    notes.unshift(auditNote('torn', { bytes, sha256, text }));
    return { newline: endsWithNewline ? '' : '\n', notes };
  }
}
