import type { Buffer } from 'node:buffer';

/** Below this, to set the words up costs more than they save. */
const fewBytes = 48;

const wordBytes = 8;
const word = new BigInt64Array(1);
const wordBits = new DataView(word.buffer);

/**
 * Takes the mask of WebSocket (RFC 6455 §5.3) off `bytes`, or puts it on, where they lie. `mask` is its four bytes as one
 * number, the first is the highest. Gives the mask for the bytes that follow.
 */
export function unmask(bytes: Buffer, mask: number): number {
  if (bytes.length < fewBytes) return unmaskBytes(bytes, mask, { from: 0, to: bytes.length });
  // Words can only be had where their addresses are multiples of their size.
  const head = -bytes.byteOffset & (wordBytes - 1);
  const turned = unmaskBytes(bytes, mask, { from: 0, to: head });
  const count = (bytes.length - head) >>> 3;
  // The order of bytes in a word is the machine's.
  wordBits.setInt32(0, turned);
  wordBits.setInt32(4, turned);
  unmaskWords(new BigInt64Array(bytes.buffer, bytes.byteOffset + head, count), word[0]!);
  return unmaskBytes(bytes, turned, { from: head + count * wordBytes, to: bytes.length });
}

function unmaskWords(words: BigInt64Array, mask: bigint): void {
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

function unmaskBytes(
  bytes: Buffer,
  mask: number,
  { from, to }: { readonly from: number; readonly to: number },
): number {
  let turned = mask;
  for (let at = from; at < to; at++) {
    bytes[at]! ^= turned >>> 24;
    turned = (turned << 8) | (turned >>> 24);
  }
  return turned;
}
