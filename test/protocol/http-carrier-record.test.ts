import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import {
  RecordDecoder,
  encodeRecord,
  maxRecordBytes,
  recordTypes,
} from '../../protocol/http-carrier-record.ts';
import type { HttpRecord } from '../../protocol/http-carrier-record.ts';

const records: readonly HttpRecord[] = [
  { type: recordTypes.TEXT, bytes: Buffer.from('ack at=4711') },
  { type: recordTypes.FILLER, bytes: Buffer.alloc(0) },
  { type: recordTypes.BINARY, bytes: Buffer.from('SSH-2.0-x\r\n') },
  { type: 255, bytes: Buffer.from('of tomorrow') },
  { type: recordTypes.NEXT, bytes: Buffer.alloc(0) },
];
const body = Buffer.concat(records.map(({ type, bytes }) => encodeRecord(type, bytes)));

function decode(...chunks: readonly Buffer[]): { records: HttpRecord[]; isBetween: boolean } {
  const decoder = new RecordDecoder();
  const found = chunks.flatMap((chunk) => [...decoder.push(chunk)]);
  return { records: found, isBetween: decoder.isBetween };
}

describe('RecordDecoder', () => {
  it('writes a record as documented', () => {
    assert.deepEqual(encodeRecord(1, Buffer.from('ping id=3')), Buffer.from('\x01\0\0\x09ping id=3'));
  });

  it('reads records wherever the body is split', () => {
    for (let at = 0; at <= body.length; at++) {
      const split = decode(body.subarray(0, at), body.subarray(at));
      assert.deepEqual(split, { records: [...records], isBetween: true }, `split at ${at}`);
    }
  });

  it('reads records byte by byte', () => {
    const bytes = [...body].map((byte) => Buffer.of(byte));
    assert.deepEqual(decode(...bytes), { records: [...records], isBetween: true });
  });

  it('knows a body that ends within a record', () => {
    const ends = records.reduce<number[]>((all, { bytes }) => [...all, all.at(-1)! + 4 + bytes.length], [0]);
    for (let at = 0; at <= body.length; at++)
      assert.equal(decode(body.subarray(0, at)).isBetween, ends.includes(at), `${at}`);
  });

  it('takes the longest record, and refuses a longer one by its head alone', () => {
    const longest = encodeRecord(recordTypes.BINARY, randomBytes(maxRecordBytes));
    assert.deepEqual(decode(longest).records[0]!.bytes, longest.subarray(4));
    const head = Buffer.of(recordTypes.BINARY, 1, 0, 1);
    assert.throws(() => decode(head), RangeError);
  });

  it('gives records or a RangeError for any input, never anything else', () => {
    for (let round = 0; round < 20_000; round++) {
      const noise = randomBytes(round % 64);
      // Small lengths, so that more than the head is read.
      if (round % 2 === 0 && noise.length > 3) noise.fill(0, 1, 3);
      try {
        const all = decode(noise.subarray(0, round % 7), noise.subarray(round % 7)).records;
        const total = all.reduce((sum, { bytes }) => sum + 4 + bytes.length, 0);
        assert.ok(total <= noise.length);
      } catch (error) {
        assert.ok(error instanceof RangeError);
      }
    }
  });
});
