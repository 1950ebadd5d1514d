import type { Buffer } from 'node:buffer';

/** Below this, setting up the words costs more than they save. */
const minWordwiseBytes = 48;

const wordBytes = 8;
const word = new BigInt64Array(1);
const wordBits = new DataView(word.buffer);

/**
 * Applies the mask of a WebSocket frame (RFC 6455 section 5.3) to `bytes` in place; applying it again removes it. `mask`
 * is its four bytes as one big-endian number. Returns the mask for the bytes that follow.
 */
export function applyMask(bytes: Buffer, mask: number): number {
  if (bytes.length < minWordwiseBytes) return maskBytes(bytes, mask, { from: 0, to: bytes.length });
  // A typed array of words must begin at a multiple of their size.
  const head = -bytes.byteOffset & (wordBytes - 1);
  const rotated = maskBytes(bytes, mask, { from: 0, to: head });
  const count = (bytes.length - head) >>> 3;
  // The order of bytes in a word is the machine's.
  wordBits.setInt32(0, rotated);
  wordBits.setInt32(4, rotated);
  maskWords(new BigInt64Array(bytes.buffer, bytes.byteOffset + head, count), word[0]!);
  return maskBytes(bytes, rotated, { from: head + count * wordBytes, to: bytes.length });
}

function maskWords(words: BigInt64Array, mask: bigint): void {
  const rest = words.length & 15;
  for (let at = 0; at < rest; at++) words[at]! ^= mask;
  for (let at = rest; at < words.length; at += 16) {
    words[at]! ^= mask;
    words[at + 1]! ^= mask;
    words[at + 2]! ^= mask;
    words[at + 3]! ^= mask;
    words[at + 4]! ^= mask;
    words[at + 5]! ^= mask;
    words[at + 6]! ^= mask;
    words[at + 7]! ^= mask;
    words[at + 8]! ^= mask;
    words[at + 9]! ^= mask;
    words[at + 10]! ^= mask;
    words[at + 11]! ^= mask;
    words[at + 12]! ^= mask;
    words[at + 13]! ^= mask;
    words[at + 14]! ^= mask;
    words[at + 15]! ^= mask;
  }
}

function maskBytes(
  bytes: Buffer,
  mask: number,
  { from, to }: { readonly from: number; readonly to: number },
): number {
  let rotated = mask;
  for (let at = from; at < to; at++) {
    bytes[at]! ^= rotated >>> 24;
    rotated = (rotated << 8) | (rotated >>> 24);
  }
  return rotated;
}
