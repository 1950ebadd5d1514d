import { applyMask } from '../../protocol/mask.ts';

/**
 * Masks `length` bytes of `source` into `output` at `offset`. With `unmask`, it stands in the bundled client for
 * `bufferutil`, the native add-on of `ws`, and has its signatures.
 */
export function mask(source: Buffer, key: Buffer, output: Buffer, offset: number, length: number): void {
  output.set(source.length === length ? source : source.subarray(0, length), offset);
  applyMask(output.subarray(offset, offset + length), key.readInt32BE(0));
}

/** Removes the mask in place. */
export function unmask(bytes: Buffer, key: Buffer): void {
  applyMask(bytes, key.readInt32BE(0));
}
