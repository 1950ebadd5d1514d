import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';

/** A line of the audit, before it becomes a link of the chain. */
export type AuditFields = Readonly<Record<string, unknown>>;

/** The end of the chain: the number and the hash of its last record; 0 and '' before the first. */
export interface ChainEnd {
  readonly seq: number;
  readonly hash: string;
}

/** The bytes after the last whole record of a file. */
export interface TornTail {
  readonly bytes: number;
  readonly sha256: string;
  /** Its first characters. */
  readonly text: string;
  readonly endsWithNewline: boolean;
}

const firstWindowBytes = 64 * 1024;
/** A file without a record in its last bytes, so many, is not continued. */
const maxWindowBytes = 64 * 1024 * 1024;
const maxTornCharacters = 300;

/** The next line of the chain, without its newline, and the end of the chain with it. */
export function nextLink(
  end: ChainEnd,
  fields: AuditFields,
): { readonly line: string; readonly end: ChainEnd } {
  const seq = end.seq + 1;
  const line = jsonLine({ seq, prev: end.hash, ...fields });
  return { line, end: { seq, hash: hashOf(line) } };
}

/** A record about the audit itself. */
export function auditNote(what: string, more: AuditFields = {}): AuditFields {
  return { time: new Date().toISOString(), event: 'audit', what, ...more };
}

/** The last whole record of an open file, and what comes after it. Throws when there is none in its last 64 MiB. */
export function readTail(
  fd: number,
  size: number,
): { readonly end: ChainEnd | undefined; readonly torn: TornTail | undefined } {
  for (let window = firstWindowBytes; ; window *= 8) {
    const start = Math.max(0, size - window);
    const bytes = Buffer.alloc(size - start);
    const tail = bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, start));
    const found = lastRecord(tail, start > 0);
    if (found) return { end: found.end, torn: tornTail(tail.subarray(found.endsAt)) };
    if (start === 0) return { end: undefined, torn: tornTail(tail) };
    if (window >= maxWindowBytes)
      throw new Error('its last 64 MiB have no record of an audit in them; move the file away');
  }
}

function lastRecord(tail: Buffer, isCut: boolean): { end: ChainEnd; endsAt: number } | undefined {
  let newline = tail.lastIndexOf(0x0a);
  while (newline >= 0) {
    const before = newline === 0 ? -1 : tail.lastIndexOf(0x0a, newline - 1);
    if (before === -1 && isCut) return undefined;
    const line = tail.subarray(before + 1, newline);
    const record = parseRecord(line);
    if (record) return { end: { seq: record.seq, hash: hashOf(line) }, endsAt: newline + 1 };
    newline = before;
  }
  return undefined;
}

function tornTail(bytes: Buffer): TornTail | undefined {
  if (bytes.length === 0) return undefined;
  return {
    bytes: bytes.length,
    sha256: hashOf(bytes),
    text: bytes.toString('latin1', 0, maxTornCharacters),
    endsWithNewline: bytes.at(-1) === 0x0a,
  };
}

export function hashOf(line: string | Uint8Array): string {
  return createHash('sha256').update(line).digest('base64url');
}

/** A record that was read, whatever else it says. */
export interface ChainedRecord {
  readonly seq: number;
  readonly prev: string;
  readonly [name: string]: unknown;
}

/** The fields of a line; undefined for one that is no record of a chain. */
export function parseRecord(line: string | Buffer): ChainedRecord | undefined {
  // Cheaper than an exception, for what is plainly something else.
  if (line[0] !== '{' && line[0] !== 0x7b) return undefined;
  try {
    const record = JSON.parse(line.toString()) as ChainedRecord;
    return Number.isSafeInteger(record.seq) && typeof record.prev === 'string' ? record : undefined;
  } catch {
    return undefined;
  }
}

/** JSON in printable ASCII only, so that a terminal that shows it receives no control sequences. */
export function jsonLine(fields: AuditFields): string {
  return JSON.stringify(fields).replaceAll(
    /[^\x20-\x7e]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The later of two ends. */
export function later(a: ChainEnd, b: ChainEnd | undefined): ChainEnd {
  return b && b.seq > a.seq ? { seq: b.seq, hash: b.hash } : a;
}

/** Does what only makes better what can also be left as it is. */
export function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // See above.
  }
}
