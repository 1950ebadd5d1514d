import { unmask as exclusiveOr } from '../../protocol/mask.ts';

/**
 * What `ws` masks with in the bundled client, in the place and with the signature of its native add-on: many bytes at a
 * time, and not one by one.
 */
export function mask(source: Buffer, key: Buffer, output: Buffer, offset: number, length: number): void {
  output.set(source.length === length ? source : source.subarray(0, length), offset);
  exclusiveOr(output.subarray(offset, offset + length), key.readInt32BE());
}

/** Takes the mask off in place. */
export function unmask(bytes: Buffer, key: Buffer): void {
  exclusiveOr(bytes, key.readInt32BE());
}
