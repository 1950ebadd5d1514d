/** Largest value that both a variable-length integer (RFC 9000 section 16) and a JavaScript number can hold. */
export const maxVarint = Number.MAX_SAFE_INTEGER;

/** A variable-length integer in its shortest form. Throws `RangeError` below 0 and above `maxVarint`. */
export function encodeVarint(value: number): Buffer {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`${value} is no variable-length integer`);
  if (value < 0x40) return Buffer.of(value);
  if (value < 0x4000) return Buffer.of(0x40 | (value >>> 8), value & 0xff);
  if (value < 0x4000_0000) {
    const bytes = Buffer.allocUnsafe(4);
    bytes.writeUInt32BE((0x8000_0000 | value) >>> 0);
    return bytes;
  }
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64BE(0xc000_0000_0000_0000n | BigInt(value));
  return bytes;
}

/**
 * The integer at `offset` and its length in bytes; undefined while bytes are missing.
 * Longer forms than necessary are valid. Throws `RangeError` above `maxVarint`.
 */
export function decodeVarint(
  bytes: Buffer,
  offset: number,
): { readonly value: number; readonly length: number } | undefined {
  const found = decodeLargeVarint(bytes, offset);
  if (found === undefined || typeof found.value === 'number') return found as VarintOf<number> | undefined;
  throw new RangeError(`a length of ${found.value} bytes`);
}

interface VarintOf<Value> {
  readonly value: Value;
  /** How many bytes it takes. */
  readonly length: number;
}

/** The same for a number that is only compared: above `maxVarint` it is a bigint. */
export function decodeLargeVarint(bytes: Buffer, offset: number): VarintOf<number | bigint> | undefined {
  const first = bytes[offset];
  if (first === undefined) return undefined;
  const length = 1 << (first >>> 6);
  if (offset + length > bytes.length) return undefined;
  if (length === 1) return { value: first & 0x3f, length };
  if (length === 2) return { value: bytes.readUInt16BE(offset) & 0x3fff, length };
  if (length === 4) return { value: bytes.readUInt32BE(offset) & 0x3fff_ffff, length };
  const value = bytes.readBigUInt64BE(offset) & 0x3fff_ffff_ffff_ffffn;
  return { value: value > BigInt(maxVarint) ? value : Number(value), length };
}
