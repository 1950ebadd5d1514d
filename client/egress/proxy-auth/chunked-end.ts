/** Maximum length of a chunk header or trailer line. */
const maxLineBytes = 4096;

/** Finds the end of a chunked body (RFC 9112 §7.1) without keeping it. */
export class ChunkedEnd {
  #state: 'size' | 'data' | 'after data' | 'trailer' = 'size';
  #line = '';
  #left = 0;

  /** The offset in `bytes` where the body ends, or undefined when more of it is to come. Throws `RangeError`. */
  push(bytes: Buffer): number | undefined {
    for (let at = 0; at < bytes.length;) {
      if (this.#state === 'data') {
        const count = Math.min(this.#left, bytes.length - at);
        this.#left -= count;
        at += count;
        if (this.#left === 0) this.#state = 'after data';
        continue;
      }
      const line = this.#readLine(bytes[at++]!);
      if (line !== undefined && this.#endsWith(line)) return at;
    }
    return undefined;
  }

  #readLine(byte: number): string | undefined {
    if (byte !== 0x0a) {
      this.#line += String.fromCharCode(byte);
      if (this.#line.length > maxLineBytes) throw new RangeError('a line of a chunked body is too long');
      return undefined;
    }
    const line = this.#line.replace(/\r$/, '');
    this.#line = '';
    return line;
  }

  /** Whether the body ends with this line. */
  #endsWith(line: string): boolean {
    if (this.#state === 'trailer') return line === '';
    if (this.#state === 'after data') {
      if (line !== '') throw new RangeError('a chunk is longer than it says');
      this.#state = 'size';
      return false;
    }
    const size = /^([0-9a-f]{1,8})[ \t]*(?:;.*)?$/i.exec(line)?.[1];
    if (size === undefined) throw new RangeError('a chunk without a size');
    this.#left = Number.parseInt(size, 16);
    this.#state = this.#left === 0 ? 'trailer' : 'data';
    return false;
  }
}
