import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { hashOf, parseRecord } from './audit-chain.ts';
import type { ChainEnd, ChainedRecord } from './audit-chain.ts';

/** One thing that was found in a file. `isBroken`: records were changed, added or taken out. */
export interface ChainFinding {
  readonly file: string;
  /** From 1 on; absent where it is about the whole file. */
  readonly line?: number;
  readonly why: string;
  readonly isBroken: boolean;
}

/** The first or the last record of a file. */
export interface ChainPoint extends ChainEnd {
  readonly time: string | undefined;
}

/** The records of one file. */
export interface FileSummary {
  readonly file: string;
  readonly records: number;
  readonly first: ChainPoint | undefined;
  readonly last: ChainPoint | undefined;
}

/** Longer lines are no records. */
const maxLineBytes = 16 * 1024 * 1024;

interface LineBefore extends ChainEnd {
  readonly file: string;
  readonly line: number;
}

/** Verifies the chain of one file after the other. */
export class ChainVerifier {
  readonly findings: ChainFinding[] = [];
  readonly summaries: FileSummary[] = [];
  /** Ends of the chain at earlier times that have not been found yet. */
  #from: ChainEnd | undefined;
  #noted: ChainEnd | undefined;
  #before: LineBefore | undefined;

  /**
   * `from`: the end of the chain at an earlier time; it must be in the files, or they must begin right after it. `noted`:
   * what the gateway itself has noted; it must be in the files unless the last one is new and empty.
   */
  constructor(from?: ChainEnd, noted?: ChainEnd) {
    this.#from = from;
    this.#noted = noted;
  }

  get isIntact(): boolean {
    return !this.findings.some(({ isBroken }) => isBroken);
  }

  /** Reads the next file. */
  async add(file: string, chunks: AsyncIterable<Buffer>): Promise<void> {
    const reader = new FileReader(this, file);
    for await (const { bytes, isWhole } of linesOf(chunks)) reader.line(bytes, isWhole);
    this.summaries.push(reader.end());
  }

  /** To be called after the last file. */
  end(): void {
    const last = this.summaries.at(-1);
    const noted = last?.last ? this.#noted : undefined;
    const due = [this.#from, noted].reduce((a, b) => (b && b.seq > (a?.seq ?? 0) ? b : a), undefined);
    const seq = this.#before?.seq ?? 0;
    if (due === undefined || seq >= due.seq) return;
    this.#broken(
      last?.file ?? '',
      undefined,
      `${recordsFrom(seq + 1, due.seq)} missing at the end; no. ${due.seq} was noted`,
    );
  }

  /** Called with each record by the reader of its file. */
  record(where: { readonly file: string; readonly line: number }, record: ChainedRecord, hash: string): void {
    this.#checkLink(where, record);
    this.#checkNoted(where, record, hash);
    this.#before = { ...where, seq: record.seq, hash };
  }

  note(file: string, line: number, why: string): void {
    this.findings.push({ file, line, why, isBroken: false });
  }

  notARecord(file: string, line: number): void {
    this.#broken(file, line, `line ${line} is not a record: it was changed or added`);
    // The link over it cannot be told from it.
    if (this.#before) this.#before = { ...this.#before, hash: '?' };
  }

  #checkLink(
    { file, line }: { readonly file: string; readonly line: number },
    { seq, prev, ...more }: ChainedRecord,
  ): void {
    const before = this.#before;
    if (before === undefined) return;
    const missing = seq - before.seq - 1;
    if (before.hash === '?') {
      if (missing > 1)
        this.#broken(
          file,
          line,
          `${recordsFrom(before.seq + 1, seq - 1)} missing or changed before line ${line}`,
        );
      return;
    }
    if (more['event'] === 'audit' && more['what'] === 'gap' && missing > 0 && prev === before.hash) {
      this.#broken(
        file,
        line,
        `${recordsFrom(before.seq + 1, seq - 1)} missing before line ${line}, as the gateway found itself`,
      );
    } else if (missing > 0) {
      this.#broken(file, line, `${recordsFrom(before.seq + 1, seq - 1)} missing before line ${line}`);
    } else if (missing < 0) {
      this.#broken(file, line, `line ${line} is out of place: its number is ${seq}, after ${before.seq}`);
    } else if (prev !== before.hash) {
      const suffix = before.file === file ? '' : ` of ${before.file}`;
      const what = `line ${before.line}${suffix} was changed (its hash does not match what line ${line} recorded)`;
      this.#broken(before.file, before.line, what);
    }
  }

  #checkNoted(
    where: { readonly file: string; readonly line: number },
    { seq, prev }: ChainedRecord,
    hash: string,
  ): void {
    const [from, noted] = [this.#from, this.#noted];
    if (from && seq >= from.seq) this.#from = undefined;
    if (noted && seq >= noted.seq) this.#noted = undefined;
    const same = [from, noted].find((end) => end && end.seq === seq);
    if (same) {
      if (hash !== same.hash)
        this.#broken(
          where.file,
          where.line,
          `line ${where.line} was changed: another hash was noted for no. ${seq}`,
        );
      return;
    }
    if (!from || seq < from.seq || this.#before) return;
    if (seq > from.seq + 1)
      this.#broken(
        where.file,
        where.line,
        `${recordsFrom(from.seq + 1, seq - 1)} missing at the beginning; no. ${from.seq} was noted`,
      );
    else if (prev !== from.hash)
      this.#broken(
        where.file,
        where.line,
        `line ${where.line} does not follow the record no. ${from.seq} that was noted`,
      );
  }

  #broken(file: string, line: number | undefined, why: string): void {
    this.findings.push({ file, ...(line !== undefined && { line }), why, isBroken: true });
  }
}

/** Finds the records of one file, and what is none. */
class FileReader {
  readonly #chain: ChainVerifier;
  readonly #file: string;
  #line = 0;
  #records = 0;
  #first: ChainPoint | undefined;
  #last: ChainPoint | undefined;
  /** Lines that are no records, until one says that they are the rest of a crash. */
  #torn: { readonly lines: number[]; readonly hash: Hash } | undefined;
  #isUnfinished = false;

  constructor(chain: ChainVerifier, file: string) {
    this.#chain = chain;
    this.#file = file;
  }

  line(bytes: Buffer, isWhole: boolean): void {
    this.#line++;
    const record = isWhole ? parseRecord(bytes) : undefined;
    if (record === undefined) return this.#keepTorn(bytes, isWhole);
    if (this.#torn) this.#resolveTorn(record);
    const hash = hashOf(bytes);
    this.#chain.record({ file: this.#file, line: this.#line }, record, hash);
    this.#records++;
    const point = {
      seq: record.seq,
      hash,
      time: typeof record['time'] === 'string' ? record['time'] : undefined,
    };
    this.#first ??= point;
    this.#last = point;
  }

  end(): FileSummary {
    const { lines = [] } = this.#torn ?? {};
    for (const line of lines) {
      if (this.#isUnfinished && line === this.#line)
        this.#chain.note(
          this.#file,
          line,
          `line ${line} is not complete: it was cut off, and the gateway has not begun again since, or it is being written`,
        );
      else this.#chain.notARecord(this.#file, line);
    }
    return { file: this.#file, records: this.#records, first: this.#first, last: this.#last };
  }

  #keepTorn(bytes: Buffer, isWhole: boolean): void {
    this.#torn ??= { lines: [], hash: createHash('sha256') };
    const { lines, hash } = this.#torn;
    if (lines.length > 0) hash.update('\n');
    hash.update(bytes);
    lines.push(this.#line);
    this.#isUnfinished = !isWhole;
  }

  /** The gateway adds a newline to what a crash has cut off, unless there was one. */
  #resolveTorn({ event, what, sha256 }: ChainedRecord): void {
    const { lines, hash } = this.#torn!;
    this.#torn = undefined;
    const isNoted =
      event === 'audit' &&
      what === 'torn' &&
      (hash.copy().digest('base64url') === sha256 || hash.copy().update('\n').digest('base64url') === sha256);
    for (const line of lines) {
      if (isNoted)
        this.#chain.note(
          this.#file,
          line,
          `line ${line} was cut off by a crash, as line ${this.#line} records`,
        );
      else this.#chain.notARecord(this.#file, line);
    }
  }
}

/** The lines of a file without their newlines; `isWhole`: it had one. */
async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<{ bytes: Buffer; isWhole: boolean }> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let at = chunk.indexOf(0x0a); at >= 0; at = chunk.indexOf(0x0a, start)) {
      parts.push(chunk.subarray(start, at));
      yield { bytes: Buffer.concat(parts), isWhole: true };
      [parts, length, start] = [[], 0, at + 1];
    }
    parts.push(chunk.subarray(start));
    length += chunk.length - start;
    if (length > maxLineBytes) throw new Error('a line is longer than 16 MiB: this is no audit');
  }
  if (length > 0) yield { bytes: Buffer.concat(parts), isWhole: false };
}

function recordsFrom(first: number, last: number): string {
  return first === last ? `record no. ${first} is` : `records no. ${first} to ${last} are`;
}
