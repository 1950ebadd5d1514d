import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { ReceiveBuffer } from '../../stream/receive-buffer.ts';

const step = fc.oneof(
  fc
    .oneof(fc.nat({ max: 5 }), fc.constantFrom(1023, 1024, 1025, 2047, 2048, 2049), fc.nat({ max: 40_000 }))
    .chain((size) =>
      fc
        .nat({ max: 255 })
        .map((first) => Buffer.from(Array.from({ length: size }, (_, at) => first + at * 7))),
    ),
  fc.integer({ min: 1, max: 20_000 }),
);

describe('an inbox', () => {
  it('gives what came, in order, as a plain array of bytes would, and gives each memory back once', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const inbox = new ReceiveBuffer();
        const all: Buffer[] = [];
        const out: Buffer[] = [];
        let [lent, back] = [0, 0];
        const append = (bytes: Buffer): void => {
          lent++;
          const memory = Buffer.from(bytes);
          // Whoever has it next writes into it.
          inbox.append(memory, () => {
            back++;
            memory.fill(0xee);
          });
        };
        const take = (most: number): Buffer => {
          const { bytes, release } = inbox.shift(most);
          const copy = Buffer.from(bytes);
          release();
          return copy;
        };
        for (const next of steps) {
          if (typeof next !== 'number') {
            append(next);
            all.push(next);
          } else {
            const taken = take(next);
            assert.ok(taken.length <= next && (taken.length > 0 || lengthOf(all) === lengthOf(out)));
            out.push(taken);
          }
          assert.equal(inbox.length, lengthOf(all) - lengthOf(out));
        }
        while (inbox.length > 0) out.push(take(65_536));
        assert.equal(back, lent);
        assert.ok(Buffer.concat(out).equals(Buffer.concat(all)));
      }),
      { numRuns: 1500 },
    );
  });

  it('does not make a million buffers of a million bytes, nor keeps a long one for a few of its bytes', () => {
    const inbox = new ReceiveBuffer();
    const one = Buffer.alloc(65_536).subarray(0, 1);
    for (let count = 0; count < 1_000_000; count++) inbox.append(one);
    inbox.append(Buffer.alloc(65_536).subarray(0, 2000));
    let [pieces, kept] = [0, 0];
    while (inbox.length > 0) {
      pieces++;
      kept += inbox.shift(65_536).bytes.buffer.byteLength;
    }
    assert.ok(pieces < 1000, `${pieces} buffers`);
    assert.ok(kept < 1_100_000, `${kept} bytes`);
  });
});

function lengthOf(parts: readonly Buffer[]): number {
  return Buffer.concat(parts).length;
}
