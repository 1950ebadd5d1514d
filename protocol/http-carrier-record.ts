import { Buffer } from 'node:buffer';

/**
 * The unit of the HTTP bodies of a carrier by plain requests (docs/entry/http.md): one byte of type, three bytes of length
 * (big endian), then the content. A body holds whole records.
 */
export interface HttpRecord {
  readonly type: number;
  readonly bytes: Buffer;
}

/** Types of records. */
export const recordTypes = {
  /** No meaning; makes an intermediary pass on what it has buffered. */
  FILLER: 0,
  /** A text message of the relay. */
  TEXT: 1,
  /** A binary message of the relay. */
  BINARY: 2,
  /** The end of the carrier: a close code in two bytes, and a reason. */
  CLOSE: 3,
  /** The last record of a response after which another can be requested. */
  NEXT: 4,
  /** To be sent back as `ECHO_REPLY`. */
  ECHO: 5,
  ECHO_REPLY: 6,
  /** A request to end the open response. */
  BRIEF: 7,
  /** The id of the carrier and the secret that signs its further requests. */
  CARRIER: 8,
} as const;

export const maxRecordBytes = 64 * 1024;

/** Bytes of an echo that are sent back: no response is larger than its request. */
export const maxEchoBytes = 16;

const headerBytes = 4;

/** One record in wire format. */
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

  /** Whether the body can end here. */
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

  /** The first `count` bytes as one buffer; copied only where they lie in several. */
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
    let used = 0;
    while (left > 0) {
      const first = this.#pending[used]!;
      if (first.length > left) {
        this.#pending[used] = first.subarray(left);
        break;
      }
      left -= first.length;
      used++;
    }
    // All at once: to remove the first of many, one at a time, moves the others each time.
    if (used > 0) this.#pending.splice(0, used);
  }
}
