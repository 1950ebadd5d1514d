import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { ChunkedEnd } from '../../../../client/egress/proxy-auth/chunked-end.ts';

const bodies = [
  '0\r\n\r\n',
  '5\r\nhello\r\n0\r\n\r\n',
  'A;name="v"\r\n0123456789\r\n1\r\n\n\r\n0\r\nTrailer: x\r\n\r\n',
  '3\n\r\n\n\n0\n\n',
];

/** Where the body ends in the bytes that come in these parts. */
function endIn(parts: readonly Buffer[]): number | undefined {
  const end = new ChunkedEnd();
  let before = 0;
  for (const part of parts) {
    const at = end.push(part);
    if (at !== undefined) return before + at;
    before += part.length;
  }
  return undefined;
}

describe('ChunkedEnd', () => {
  for (const body of bodies) {
    const bytes = Buffer.from(`${body}HTTP/1.1`);
    it(`finds the end of ${JSON.stringify(body)} wherever it is split, and byte by byte`, () => {
      for (let at = 0; at <= bytes.length; at++) {
        assert.equal(endIn([bytes.subarray(0, at), bytes.subarray(at)]), body.length, `split at ${at}`);
      }
      assert.equal(endIn([...bytes].map((byte) => Buffer.of(byte))), body.length);
      for (let at = 0; at < body.length; at++) assert.equal(endIn([bytes.subarray(0, at)]), undefined);
    });
  }

  for (const body of [
    'x\r\n',
    '\r\n',
    '-1\r\n',
    '5\r\nhello!\r\n',
    '123456789\r\n',
    '0 x\r\n',
    'a'.repeat(5000),
  ]) {
    it(`refuses ${JSON.stringify(body.slice(0, 20))}`, () => {
      assert.throws(() => endIn([Buffer.from(body)]), RangeError);
    });
  }

  it('any bytes have an end, or none, or are a RangeError', () => {
    const words = ['0', 'a', '\r\n', '\n', ';', 'f', '\r', ' '];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...words)), (parts) => {
        const bytes = Buffer.from(parts.join(''));
        try {
          const at = endIn([bytes]);
          assert.ok(at === undefined || at <= bytes.length);
        } catch (error) {
          assert.ok(error instanceof RangeError);
        }
      }),
      { numRuns: 5000 },
    );
  });
});
