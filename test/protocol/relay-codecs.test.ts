import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { RelayViolation } from '../../protocol/relay-frame.ts';
import type { RelayCodec, RelayFrame, RelayMessage } from '../../protocol/relay-frame.ts';
import { relayV1 } from '../../protocol/relay-v1.ts';
import { relayV4 } from '../../protocol/relay-v4.ts';

const fuzzRuns = process.env.POSTERN_LONG ? 10_000_000 : 200_000;

const position = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.constantFrom(0, 2 ** 53 - 1));
const word = fc.stringMatching(/^[\w.-]{1,128}$/);
const data = fc
  .uint8Array({ minLength: 1, maxLength: 300 })
  .map((bytes): RelayFrame => ({ kind: 'data', bytes: Buffer.from(bytes) }));
const ack = position.map((at): RelayFrame => ({ kind: 'ack', at }));

const v1Frames: fc.Arbitrary<RelayFrame> = fc.oneof(
  data,
  ack,
  position.map((at): RelayFrame => ({ kind: 'end', at })),
  position.map((id): RelayFrame => ({ kind: 'ping', id })),
  position.map((id): RelayFrame => ({ kind: 'pong', id })),
  fc.constant<RelayFrame>({ kind: 'move' }),
  fc.tuple(position, position).map(([received, from]): RelayFrame => ({ kind: 'joined', received, from })),
  fc
    .tuple(word, word, position, position, fc.option(position, { nil: undefined }))
    .map(([sid, secret, windowBytes, keepMs, carrierMs]): RelayFrame => {
      return {
        kind: 'opened',
        sid,
        secret,
        windowBytes,
        keepMs,
        ...(carrierMs !== undefined && { carrierMs }),
      };
    }),
);
const v4Frames: fc.Arbitrary<RelayFrame> = fc.oneof(
  data,
  ack,
  position.map((received): RelayFrame => ({ kind: 'joined', received })),
  word.map((sid): RelayFrame => ({ kind: 'opened', sid })),
);

/** A message as it comes from a WebSocket. */
function decode(codec: RelayCodec, message: RelayMessage): RelayFrame | undefined {
  return codec.decode(Buffer.from(message as string, 'latin1'), typeof message !== 'string');
}

/** What is made of a message; anything but a frame, nothing and a violation is a failure. */
function outcome(codec: RelayCodec, message: Buffer, isBinary: boolean): string {
  try {
    const frame = codec.decode(message, isBinary);
    if (frame === undefined) return 'nothing';
    check(frame, codec);
    return frame.kind;
  } catch (error) {
    if (!(error instanceof RelayViolation)) throw error;
    assert.ok(error.closeCode >= 4000 && error.closeCode < 4100);
    return 'violation';
  }
}

/** Whatever comes out can be counted with. */
function check(frame: RelayFrame, codec: RelayCodec): void {
  for (const value of Object.values(frame)) {
    if (typeof value === 'number') assert.ok(Number.isSafeInteger(value) && value >= 0);
    if (typeof value === 'string') assert.ok(value.length <= 1024);
  }
  if (frame.kind === 'data') assert.ok(frame.bytes.length > 0 && frame.bytes.length <= codec.maxDataBytes);
}

for (const [name, codec, frames] of [
  ['postern.relay.v1', relayV1, v1Frames],
  ['relay v4', relayV4, v4Frames],
] as const) {
  describe(`messages of ${name}`, () => {
    it('come back as they went', () => {
      fc.assert(
        fc.property(frames, (frame) => {
          const message = codec.encode(frame);
          assert.ok(message !== undefined);
          assert.deepEqual(decode(codec, message), frame);
        }),
        { numRuns: 2000 },
      );
    });

    it('cut off anywhere give a frame, nothing or a violation', () => {
      fc.assert(
        fc.property(frames, (frame) => {
          const message = codec.encode(frame)!;
          const bytes = Buffer.from(message as string, 'latin1');
          for (let length = 0; length < bytes.length; length++)
            outcome(codec, bytes.subarray(0, length), typeof message !== 'string');
        }),
        { numRuns: 500 },
      );
    });

    it(`any message gives a frame, nothing or a violation, never anything else (${fuzzRuns} messages)`, () => {
      const samples = fc
        .sample(frames, { numRuns: 300, seed: 4 })
        .map((frame) => Buffer.from(codec.encode(frame)! as string, 'latin1'));
      const seen = new Map<string, number>();
      for (const message of mutations(samples, fuzzRuns)) {
        const what = outcome(codec, message, random() < (codec === relayV4 ? 0.95 : 0.3));
        seen.set(what, (seen.get(what) ?? 0) + 1);
      }
      // A fuzz test that never gets past the first check tests nothing.
      for (const kind of ['nothing', 'violation', 'data', 'ack', 'opened', 'joined'])
        assert.ok((seen.get(kind) ?? 0) > 50, `${kind}: ${seen.get(kind)}`);
    });

    it('of data hold as much as they may, and no byte more', () => {
      const bytes = Buffer.alloc(codec.maxDataBytes, 'x');
      assert.deepEqual(decode(codec, codec.encode({ kind: 'data', bytes })!), { kind: 'data', bytes });
      const more = codec.encode({ kind: 'data', bytes: Buffer.alloc(codec.maxDataBytes + 1) })!;
      assert.equal(outcome(codec, more as Buffer, true), 'violation');
    });
  });
}

let state = 0x2545f491;
/** xorshift32: the same messages each time, and ten million of them in seconds. */
function random(): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
}

function below(limit: number): number {
  return Math.floor(random() * limit);
}

/** `count` messages that are nearly right. */
function* mutations(samples: readonly Buffer[], count: number): Generator<Buffer> {
  const spices = [
    ' ',
    '=',
    '-',
    '0',
    '9',
    '\n',
    '\0',
    '\x7f',
    '\xff',
    'at=',
    '18446744073709551616',
    'ack',
    'end',
  ];
  for (let made = 0; made < count; made++) {
    let message = Buffer.from(samples[below(samples.length)]!);
    for (let changes = below(4); changes > 0; changes--) {
      const at = below(message.length + 1);
      switch (below(5)) {
        case 0:
          if (at < message.length) message[at] = below(256);
          break;
        case 1:
          message = message.subarray(0, at);
          break;
        case 2:
          message = Buffer.concat([
            message.subarray(0, at),
            message.subarray(Math.min(message.length, at + 1 + below(4))),
          ]);
          break;
        case 3:
          message = Buffer.concat([
            message.subarray(0, at),
            Buffer.from(spices[below(spices.length)]!, 'latin1'),
            message.subarray(at),
          ]);
          break;
        default:
          message = Buffer.concat([message, samples[below(samples.length)]!]);
      }
    }
    yield message;
  }
}

describe('text messages of postern.relay.v1', () => {
  for (const text of [
    '',
    ' ',
    'ack',
    'ack ',
    'ack at=',
    'ack at=-1',
    'ack at=+1',
    'ack at=01',
    'ack at=1.5',
    'ack at=1e3',
    'ack at=0x10',
    'ack at=9007199254740992',
    'ack at=18446744073709551616',
    'ack at=NaN',
    'ack at=Infinity',
    'ack at=1 ',
    'ack  at=1',
    ' ack at=1',
    'ack at=1\n',
    'ack at=1\r\n',
    'ack\tat=1',
    'ACK at=1',
    'ack AT=1',
    'ack at=\0',
    'ack at=1\0',
    'ack at=\x7f',
    'ack at=\u00e9',
    'end',
    'ping',
    'pong id=x',
    'joined received=1',
    'joined from=1',
    'opened sid=a secret=b window=1',
    'opened sid= secret=b window=1 keep=1',
    'opened sid=../x secret=b window=1 keep=1',
    `opened sid=${'a'.repeat(129)} secret=b window=1 keep=1`,
    `word ${'a'.repeat(1024)}=`,
  ])
    it(`${JSON.stringify(text.slice(0, 60))} is a violation`, () =>
      assert.equal(readText(text), 'violation'));

  for (const [text, what] of [
    ['ack at=0', 'ack'],
    ['ack at=9007199254740991', 'ack'],
    ['ack at=1 more=x', 'ack'],
    ['move', 'move'],
    ['move soon=1', 'move'],
    ['constructor', 'nothing'],
    ['tostring a=b', 'nothing'],
    ['hello', 'nothing'],
  ] as const)
    it(`${JSON.stringify(text)} is ${what}`, () => assert.equal(readText(text), what));

  it('an empty binary message is a violation', () =>
    assert.equal(outcome(relayV1, Buffer.alloc(0), true), 'violation'));
});

describe('commands of relay v4', () => {
  for (const [what, hex] of [
    ['no tag', ''],
    ['half a tag', '00'],
    ['DATA without a length', '0004'],
    ['DATA with half a length', '0004000000'],
    ['empty DATA', '000400000000'],
    ['DATA that is longer than its message', '00040000000261'],
    ['DATA of 2^32 - 1 bytes', '0004ffffffff61'],
    ['DATA of 16385 bytes', `000400004001${'61'.repeat(16_385)}`],
    ['ACK without a position', '0007'],
    ['ACK with half a position', '000700000000'],
    ['ACK of 2^53', '00070020000000000000'],
    ['ACK of 2^64 - 1', '0007ffffffffffffffff'],
    ['CONNECT_SUCCESS without a name', '000100000000'],
  ] as const)
    it(`${what} is a violation`, () => assert.equal(readHex(hex), 'violation'));

  it('a text message is a violation', () => assert.equal(readHex('00040000000161', false), 'violation'));
  it('what follows the bytes is passed over', () => assert.equal(readHex('000400000001616263'), 'data'));
  it('unknown tags are passed over', () => {
    for (const tag of ['0000', '0003', '0005', '0006', '000a', '00f0', 'ffff']) {
      assert.equal(readHex(tag), 'nothing');
      assert.equal(readHex(`${tag}ffffffffffffffff`), 'nothing');
    }
  });
  it('an EOF has no word, nor has an answer to a ping or a wish to move', () => {
    for (const frame of [{ kind: 'end', at: 1 }, { kind: 'pong', id: 1 }, { kind: 'move' }] as const)
      assert.equal(relayV4.encode(frame), undefined);
  });
  // The bytes on the wire: big endian, u16 tag, u32 length or u64 position.
  for (const [frame, hex] of [
    [{ kind: 'opened', sid: 'abc' }, '000100000003616263'],
    [{ kind: 'joined', received: 0x1_0000_0002 }, '00020000000100000002'],
    [{ kind: 'data', bytes: Buffer.from('x') }, '00040000000178'],
    [{ kind: 'ack', at: 258 }, '00070000000000000102'],
    [{ kind: 'ping', id: 7 }, '00f0'],
  ] as const)
    it(`${frame.kind} is ${hex}`, () => assert.equal((relayV4.encode(frame) as Buffer).toString('hex'), hex));
});

function readText(text: string): string {
  return outcome(relayV1, Buffer.from(text, 'latin1'), false);
}

function readHex(hex: string, isBinary = true): string {
  return outcome(relayV4, Buffer.from(hex, 'hex'), isBinary);
}
