import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import {
  CapsuleDecoder,
  capsuleCodes,
  capsuleHead,
  connectTcpTokens,
  keepAliveCapsule,
  reasonCapsule,
} from '../../protocol/capsule.ts';
import { decodeVarint, encodeVarint } from '../../protocol/varint.ts';

const codes = capsuleCodes('connect-tcp')!;

/** Everything a decoder makes of some chunks: the bytes, and whether the end came. */
function decode(...chunks: Buffer[]): { bytes: string; ended: boolean } {
  const decoder = new CapsuleDecoder(codes);
  let bytes = '';
  for (const chunk of chunks) {
    for (const event of decoder.push(chunk))
      if (event.kind === 'data') bytes += event.bytes.toString('latin1');
  }
  return { bytes, ended: decoder.ended };
}

function capsule(type: number, value: string): Buffer {
  return Buffer.concat([capsuleHead(type, value.length), Buffer.from(value, 'latin1')]);
}

describe('connect-tcp capsules', () => {
  it('use the code points of each draft', () => {
    assert.deepEqual(connectTcpTokens, ['connect-tcp', 'connect-tcp-12', 'connect-tcp-07']);
    assert.equal(capsuleHead(capsuleCodes('connect-tcp')!.data, 0).toString('hex'), 'a028d7f200');
    assert.equal(capsuleHead(capsuleCodes('connect-tcp-12')!.finalData, 0).toString('hex'), 'a028d7f300');
    assert.equal(capsuleHead(capsuleCodes('connect-tcp-07')!.finalData, 0).toString('hex'), 'a028d7f100');
    for (const token of ['connect-tcp-06', 'constructor', '__proto__', ''])
      assert.equal(capsuleCodes(token), undefined);
  });

  const stream = Buffer.concat([
    capsule(codes.data, 'one '),
    keepAliveCapsule,
    capsule(codes.data, ''),
    capsule(0x1234567, 'skipped'),
    capsule(codes.data, 'two '),
    capsule(codes.finalData, 'three'),
    capsule(0x17, 'after the end'),
  ]);
  const whole = { bytes: 'one two three', ended: true };

  it('give the stream, wherever the bytes are split', () => {
    for (let at = 0; at <= stream.length; at++) {
      assert.deepEqual(decode(stream.subarray(0, at), stream.subarray(at)), whole, `split at ${at}`);
    }
  });

  it('give the stream one byte at a time', () => {
    assert.deepEqual(decode(...Array.from(stream, (byte) => Buffer.of(byte))), whole);
  });

  it('give bytes before their capsule is complete', () => {
    assert.equal(decode(capsule(codes.data, 'half').subarray(0, -2)).bytes, 'ha');
  });

  it('can have any valid length form', () => {
    const long = Buffer.concat([
      Buffer.from('c00000002028d7f2', 'hex'),
      Buffer.from('4003', 'hex'),
      Buffer.from('abc'),
    ]);
    assert.equal(decode(long).bytes, 'abc');
  });

  it('know a connection that ends inside one', () => {
    const decoder = new CapsuleDecoder(codes);
    assert.equal(decoder.betweenCapsules, true);
    for (const byte of capsule(codes.data, 'abc').subarray(0, -1)) {
      assert.equal(
        [...decoder.push(Buffer.of(byte))].some(({ kind }) => kind === 'end'),
        false,
      );
      assert.equal(decoder.betweenCapsules, false);
    }
  });

  for (const [what, type] of [
    ['data', codes.data],
    ['final data', codes.finalData],
  ] as const) {
    it(`refuse ${what} after the end`, () => {
      assert.throws(() => decode(capsule(codes.finalData, ''), capsule(type, 'x')), RangeError);
    });
  }

  it('refuse a length beyond 2^53', () => {
    assert.throws(() => decode(Buffer.concat([encodeVarint(codes.data), Buffer.alloc(8, 0xff)])), RangeError);
  });

  it('skip a type of any size, however it is split', () => {
    for (const type of ['ffffffffffffffff', 'e020000000000000', 'dfffffffffffffff', 'c000000000000000']) {
      const bytes = Buffer.concat([
        Buffer.from(`${type}00`, 'hex'),
        Buffer.from(`${type}03616263`, 'hex'),
        capsule(codes.data, 'hi'),
        capsule(codes.finalData, ''),
      ]);
      assert.deepEqual(decode(bytes), { bytes: 'hi', ended: true });
      for (let at = 1; at < bytes.length; at++)
        assert.deepEqual(decode(bytes.subarray(0, at), bytes.subarray(at)), { bytes: 'hi', ended: true });
    }
  });

  it('refuse an absurd length of an unknown type too', () => {
    assert.throws(() => decode(Buffer.alloc(16, 0xff)), RangeError);
  });

  it('any bytes, split anyhow, give events or a RangeError, and the same for every split', () => {
    const runs = Number(process.env.POSTERN_FUZZ_RUNS ?? 2000);
    const part = fc.oneof(
      fc.uint8Array({ maxLength: 20 }),
      fc.constantFrom(stream, keepAliveCapsule, reasonCapsule('KILLED'), capsule(codes.data, 'x')),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 5 }), fc.nat(), (parts, cut) => {
        const bytes = Buffer.concat(parts);
        const at = cut % (bytes.length + 1);
        const outcomes = [
          [bytes],
          [bytes.subarray(0, at), bytes.subarray(at)],
          Array.from(bytes, (byte) => Buffer.of(byte)),
        ].map((chunks) => {
          try {
            return decode(...chunks);
          } catch (error) {
            assert.ok(error instanceof RangeError, String(error));
            return 'refused';
          }
        });
        assert.deepEqual(outcomes[1], outcomes[0]);
        assert.deepEqual(outcomes[2], outcomes[0]);
      }),
      { numRuns: runs },
    );
  });
});

describe('the reason capsule', () => {
  const reasonsIn = (...chunks: Buffer[]): string[] => {
    const decoder = new CapsuleDecoder(codes);
    return chunks.flatMap((chunk) =>
      [...decoder.push(chunk)].flatMap((event) => (event.kind === 'reason' ? [event.reason] : [])),
    );
  };
  const whole = Buffer.concat([capsule(codes.data, 'x'), reasonCapsule('REVOKED'), reasonCapsule('KILLED')]);

  it('is read however it is split', () => {
    for (let at = 0; at <= whole.length; at++)
      assert.deepEqual(
        reasonsIn(whole.subarray(0, at), whole.subarray(at)),
        ['REVOKED', 'KILLED'],
        `split at ${at}`,
      );
    assert.deepEqual(reasonsIn(...Array.from(whole, (byte) => Buffer.of(byte))), ['REVOKED', 'KILLED']);
  });

  it('is skipped with an unknown reason, and when it is too long', () => {
    const type = decodeVarint(reasonCapsule('REVOKED'), 0)!.value;
    const unknown = ['', 'constructor', 'REVOKED ', 'x'.repeat(33), 'x'.repeat(70_000)].map((text) =>
      capsule(type, text),
    );
    assert.deepEqual(reasonsIn(...unknown, reasonCapsule('REVOKED')), ['REVOKED']);
  });

  it('does not clash with the reserved types (RFC 9297 section 5.4)', () => {
    assert.notEqual((decodeVarint(reasonCapsule('REVOKED'), 0)!.value - 0x17) % 0x29, 0);
  });
});

describe('variable-length integers', () => {
  // RFC 9000 §A.1
  for (const [hex, value] of [
    ['9d7f3e7d', 494_878_333],
    ['7bbd', 15_293],
    ['25', 37],
    ['4025', 37],
  ] as const) {
    it(`${hex} is ${value}`, () => {
      assert.deepEqual(decodeVarint(Buffer.from(hex, 'hex'), 0), { value, length: hex.length / 2 });
    });
  }

  it('come back as they went', () => {
    for (const value of [0, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, Number.MAX_SAFE_INTEGER]) {
      assert.equal(decodeVarint(encodeVarint(value), 0)?.value, value);
    }
  });

  for (const value of [-1, 1.5, Number.NaN, 2 ** 53]) {
    it(`refuse to write ${value}`, () => assert.throws(() => encodeVarint(value), RangeError));
  }
});
