import { chmodSync, closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { ChainEnd } from './audit-chain.ts';

const { O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;

/** The last record that was written, and in which file. */
export interface NotedEnd extends ChainEnd {
  readonly dev: number;
  readonly ino: number;
  /** The store of the gateway whose audit this is. */
  readonly store: string;
}

/**
 * A note beside the audit, of where its chain ends: a new file of the same name continues there, after a restart too, and
 * an end that was cut off shows. The audit itself is what counts: the note is not flushed, and can be absent.
 */
export class AuditHead {
  readonly #path: string;

  constructor(auditFile: string) {
    this.#path = headFileOf(auditFile);
  }

  read(): NotedEnd | undefined {
    return readHead(this.#path);
  }

  /** Throws what the file system throws. */
  write({ seq, hash, dev, ino, store }: NotedEnd): void {
    const fd = openSync(this.#path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600);
    try {
      // Always of the same length, for one store: a change of the size is work for the disk.
      const text = `${`${seq}:${hash}`.padEnd(64)} ${dev}:${ino}`.padEnd(110);
      writeSync(fd, `${text}\n${store}\n`, 0);
    } finally {
      closeSync(fd);
    }
  }

  /** Notes whose audit this is. Throws what the file system throws. */
  claim(store: string): void {
    this.write({ seq: 0, hash: '', dev: 0, ino: 0, ...this.read(), store });
    chmodSync(this.#path, 0o600);
  }
}

/** The note beside an audit file. */
export function headFileOf(auditFile: string): string {
  return join(dirname(auditFile), `.${basename(auditFile)}.head`);
}

/** Reads a note; undefined when there is none, or none that can be read. */
export function readHead(path: string): NotedEnd | undefined {
  let text;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
  const [end = '', store, rest] = text.split('\n', 3);
  const [, seq, hash, dev, ino] = /^(\d{1,16}):([\w-]{0,43}) +(\d{1,20}):(\d{1,20}) *$/.exec(end) ?? [];
  // Without the second line feed it was cut off.
  if (seq === undefined || store === undefined || rest === undefined) return undefined;
  return { seq: Number(seq), hash: hash!, dev: Number(dev), ino: Number(ino), store };
}
