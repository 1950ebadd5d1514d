import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { mask, unmask } from '../../../client/entry/mask.ts';

/** RFC 6455 §5.3, to the letter. */
function plain(bytes: Buffer, key: Buffer): Buffer {
  return Buffer.from(bytes.map((byte, at) => byte ^ key[at % 4]!));
}

describe('mask()', () => {
  it('does what RFC 6455 says, wherever bytes begin and end', () => {
    const memory = randomBytes(64);
    for (let from = 0; from < 8; from++) {
      for (let length = 0; length < 24; length++) {
        for (let offset = 0; offset < 8; offset++) {
          const [source, key] = [memory.subarray(from, from + length), randomBytes(4)];
          const output = Buffer.alloc(offset + length + 4);
          mask(source, key, output, offset, length);
          const expected = Buffer.concat([Buffer.alloc(offset), plain(source, key), Buffer.alloc(4)]);
          assert.deepEqual(output, expected, `${length} bytes from ${from} to ${offset}`);
        }
      }
    }
  });

  it('masks in place, as `ws` asks for when it may', () => {
    const [bytes, key] = [randomBytes(1001), randomBytes(4)];
    const expected = plain(bytes, key);
    mask(bytes, key, bytes, 0, bytes.length);
    assert.deepEqual(bytes, expected);
  });
});

describe('unmask()', () => {
  it('takes off what mask() has put on, wherever the bytes begin', () => {
    for (let from = 0; from < 8; from++) {
      const [bytes, key] = [randomBytes(777).subarray(from), randomBytes(4)];
      const masked = plain(bytes, key);
      unmask(masked, key);
      assert.deepEqual(masked, bytes);
    }
  });
});
