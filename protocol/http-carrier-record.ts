import { Buffer } from 'node:buffer';

/**
 * What the bodies of a carrier by plain HTTP are made of (docs/entry/http.md): a byte that says what it is, three bytes
 * with the length of the rest, and the rest. A body holds whole records.
 */
export interface HttpRecord {
  readonly type: number;
  readonly bytes: Buffer;
}

/** What a record is. */
export const recordTypes = {
  /** Means nothing; makes something on the way pass on what it has. */
  FILLER: 0,
  /** A text message of the relay. */
  TEXT: 1,
  /** A binary message of the relay. */
  BINARY: 2,
  /** The end of the carrier: a close code in two bytes, and why. */
  CLOSE: 3,
  /** The last record of an answer after which another one may be asked for. */
  NEXT: 4,
  /** To be sent back as `ECHO_REPLY`. */
  ECHO: 5,
  ECHO_REPLY: 6,
  /** End the answer that is open. */
  BRIEF: 7,
  /** What the further requests of this carrier are signed with. */
  CARRIER: 8,
} as const;

export const maxRecordBytes = 64 * 1024;

/** The most of an echo that is sent back: who asks gets no more than it sends. */
export const maxEchoBytes = 16;

const headerBytes = 4;

/** One record as it goes on the wire. */
export function encodeRecord(type: number, bytes: Buffer): Buffer {
  const record = Buffer.allocUnsafe(headerBytes + bytes.length);
  record.writeUInt32BE(type * 2 ** 24 + bytes.length, 0);
  bytes.copy(record, headerBytes);
  return record;
}

/** Reads the records of one body. */
export class RecordDecoder {
  #pending: Buffer[] = [];
  #pendingBytes = 0;

  /** Whether the body may end here. */
  get isBetween(): boolean {
    return this.#pendingBytes === 0;
  }

  /** Records completed by `chunk`. Throws `RangeError` when one is too long; the decoder is then unusable. */
  *push(chunk: Buffer): Generator<HttpRecord> {
    if (chunk.length > 0) this.#pending.push(chunk);
    this.#pendingBytes += chunk.length;
    while (this.#pendingBytes >= headerBytes) {
      const head = this.#peek(headerBytes);
      const length = head.readUIntBE(1, 3);
      if (length > maxRecordBytes) throw new RangeError(`a record of ${length} bytes`);
      if (this.#pendingBytes < headerBytes + length) return;
      const bytes = this.#peek(headerBytes + length).subarray(headerBytes);
      this.#drop(headerBytes + length);
      yield { type: head[0]!, bytes };
    }
  }

  /** The first bytes, in one piece; copied only where they are not. */
  #peek(count: number): Buffer {
    const first = this.#pending[0]!;
    if (first.length >= count) return first.subarray(0, count);
    const pieces: Buffer[] = [];
    let missing = count;
    for (const piece of this.#pending) {
      if (missing <= 0) break;
      pieces.push(piece.subarray(0, missing));
      missing -= piece.length;
    }
    return Buffer.concat(pieces);
  }

  #drop(count: number): void {
    this.#pendingBytes -= count;
    let left = count;
    while (left > 0) {
      const first = this.#pending[0]!;
      if (first.length > left) {
        this.#pending[0] = first.subarray(left);
        return;
      }
      left -= first.length;
      this.#pending.shift();
    }
  }
}
