import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { ReplayBuffer } from '../../protocol/replay-buffer.ts';

const runs = process.env.POSTERN_LONG ? 50_000 : 1500;

/** Everything from `position` on, read in pieces of at most `most`. */
function readAll(replay: ReplayBuffer, position: number, most: number): Buffer {
  const pieces: Buffer[] = [];
  for (let at = position; at < replay.end;) {
    const piece = replay.read(at, most);
    assert.ok(piece.length > 0 && piece.length <= most);
    pieces.push(piece);
    at += piece.length;
  }
  return Buffer.concat(pieces);
}

type Step =
  | { readonly kind: 'append'; readonly bytes: Buffer }
  | { readonly kind: 'drop' | 'read' | 'trim'; readonly where: number; readonly most: number };

/** Of a length that is no power of two: blocks that are mixed up differ. */
const pattern = Buffer.from(Array.from({ length: 997 }, (_, index) => index * 7));

const where = fc.double({ min: 0, max: 1, noNaN: true });
const sizes = fc.oneof(
  fc.nat({ max: 5 }),
  fc.constantFrom(1023, 1024, 1025, 2047, 2048, 2049),
  fc.constantFrom(49_151, 49_152, 65_535, 65_536, 65_537, 200_000),
  fc.nat({ max: 4000 }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  sizes.chain((size) =>
    fc.nat({ max: 255 }).map((first): Step => {
      return { kind: 'append', bytes: Buffer.alloc(size, pattern.subarray(first)) };
    }),
  ),
  fc
    .tuple(fc.constantFrom('drop', 'read', 'read', 'trim'), where, fc.integer({ min: 1, max: 3000 }))
    .map(([kind, where, most]): Step => ({ kind, where, most })),
);

describe('a replay buffer', () => {
  it('gives what was appended, from any position that is kept, as a plain array of bytes would', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: 'max' }), (steps) => {
        const replay = new ReplayBuffer();
        let all = Buffer.alloc(0);
        let start = 0;
        for (const next of steps) {
          if (next.kind === 'append') {
            replay.append(next.bytes);
            all = Buffer.concat([all, next.bytes]);
          } else {
            const position = start + Math.round(next.where * (all.length - start));
            if (next.kind === 'drop') replay.dropBefore((start = position));
            else if (next.kind === 'trim') replay.trim();
            else assert.ok(readAll(replay, position, next.most).equals(all.subarray(position)));
          }
          assert.deepEqual([replay.start, replay.end], [start, all.length]);
        }
        assert.ok(readAll(replay, start, 777).equals(all.subarray(start)));
      }),
      { numRuns: runs },
    );
  });

  it('refuses a position that is not kept, and changes nothing', () => {
    const replay = new ReplayBuffer();
    replay.append(Buffer.from('0123456789'));
    replay.dropBefore(4);
    for (const position of [-1, 0, 3, 11, 2 ** 53, NaN, Infinity]) {
      assert.throws(() => replay.read(position, 1), TypeError);
      assert.throws(() => replay.dropBefore(position), TypeError);
    }
    assert.equal(readAll(replay, 4, 100).toString(), '456789');
  });

  it('gives nothing at the end', () => {
    const replay = new ReplayBuffer();
    assert.equal(replay.read(0, 9).length, 0);
    replay.append(Buffer.from('x'));
    assert.equal(replay.read(1, 9).length, 0);
  });

  it('keeps copies: the memory of appended bytes can be used again', () => {
    for (const length of [3, 100_000]) {
      const replay = new ReplayBuffer();
      const bytes = Buffer.alloc(length, 'few');
      replay.append(bytes);
      bytes.fill(0);
      assert.ok(readAll(replay, 0, length).equals(Buffer.alloc(length, 'few')));
    }
  });

  it('uses the memory of what was dropped again', () => {
    const replay = new ReplayBuffer();
    const stores = new Set<ArrayBufferLike>();
    for (let count = 0; count < 1000; count++) {
      replay.append(Buffer.alloc(65_536, 'x'));
      stores.add(replay.read(replay.end - 1, 1).buffer);
      if (count > 10) replay.dropBefore(replay.end - 10 * 65_536);
    }
    assert.ok(stores.size < 20, `${stores.size} buffers`);
  });

  it('keeps little more than it has to, once it was trimmed', () => {
    const replay = new ReplayBuffer();
    for (let count = 0; count < 20; count++) replay.append(Buffer.alloc(65_536, 'x'));
    replay.append(Buffer.from('the rest'));
    replay.dropBefore(replay.end - 8);
    replay.trim();
    assert.equal(replay.read(replay.start, 8).toString(), 'the rest');
    assert.ok(replay.read(replay.start, 8).buffer.byteLength <= 2048);
  });

  it('does not make a million buffers of a million bytes', () => {
    const replay = new ReplayBuffer();
    const one = Buffer.from('x');
    for (let count = 0; count < 1_000_000; count++) replay.append(one);
    const stores = new Set<ArrayBufferLike>();
    let kept = 0;
    for (let at = 0; at < replay.end;) {
      const piece = replay.read(at, 64 * 1024);
      if (!stores.has(piece.buffer)) kept += piece.buffer.byteLength;
      stores.add(piece.buffer);
      at += piece.length;
    }
    assert.ok(stores.size < 1000, `${stores.size} buffers`);
    assert.ok(kept < 1_100_000, `${kept} bytes`);
  });

  it('forgets what is dropped, also when it is never empty', () => {
    const replay = new ReplayBuffer();
    const bytes = Buffer.alloc(100, 'x');
    for (let at = 0; at < 20_000_000; at += 100) {
      replay.append(bytes);
      if (at > 1000) replay.dropBefore(at - 1000);
    }
    assert.equal(replay.end - replay.start, 1100);
    assert.equal(readAll(replay, replay.start, 5000).length, 1100);
  });
});
