import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { Writable } from 'node:stream';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import * as ws from 'ws';
import { WebSocketDataFrames } from '../../protocol/websocket-data-frames.ts';

// Its types lack it.
const { Receiver } = ws as unknown as { Receiver: new (options: object) => Writable };

const mostBytes = 64 * 1024;
const runsInTurn = 10_000;
const fuzzRuns = process.env.POSTERN_LONG ? 1_000_000 : 20_000;

interface FrameOptions {
  readonly first?: number;
  readonly mask?: Buffer | undefined;
  /** Bytes of the length, when not as few as can be. */
  readonly lengthBytes?: 2 | 8;
}

function frame(
  payload: Buffer,
  { first = 0x82, mask = randomBytes(4), lengthBytes }: FrameOptions = {},
): Buffer {
  const long = lengthBytes ?? (payload.length < 126 ? 0 : payload.length < 65_536 ? 2 : 8);
  const head = Buffer.alloc(2 + long);
  head[0] = first;
  head[1] = 0x80 | (long === 0 ? payload.length : long === 2 ? 126 : 127);
  if (long > 0) head.writeUIntBE(payload.length, 2 + long - Math.min(long, 6), Math.min(long, 6));
  return Buffer.concat([head, mask, payload.map((byte, at) => byte ^ mask[at % 4]!)]);
}

/** What comes out: the payload, and where it was interrupted by what else. */
function read(...chunks: readonly Buffer[]): { payload: Buffer; other: Buffer; order: string } {
  const parts: { kind: string; bytes: Buffer }[] = [];
  const frames = new WebSocketDataFrames(
    { maxBytes: mostBytes },
    {
      payload: (bytes) => parts.push({ kind: 'p', bytes: Buffer.from(bytes) }),
      other: (bytes) => parts.push({ kind: 'o', bytes: Buffer.from(bytes) }),
    },
  );
  for (const chunk of chunks) frames.push(Buffer.from(chunk));
  const of = (wanted: string): Buffer =>
    Buffer.concat(parts.filter(({ kind }) => kind === wanted).map(({ bytes }) => bytes));
  return {
    payload: of('p'),
    other: of('o'),
    order: parts.flatMap(({ kind, bytes }) => Array.from(bytes, () => kind)).join(''),
  };
}

const empty = Buffer.alloc(0);
const ping = (text: string): Buffer => frame(Buffer.from(text), { first: 0x89 });

describe('plain frames', () => {
  const stream = Buffer.concat([
    frame(Buffer.from('one ')),
    ping(''),
    frame(randomBytes(200)),
    frame(Buffer.from('late'), { first: 0x8a }),
    ping('x'.repeat(125)),
    frame(Buffer.from('two '), { lengthBytes: 8 }),
    frame(empty),
    frame(Buffer.from('fragment'), { first: 0x02 }),
    frame(Buffer.from('three'), { first: 0x80 }),
    frame(Buffer.from('four')),
  ]);

  it('are read wherever the bytes are split', () => {
    const whole = read(stream);
    assert.equal(whole.payload.length, 208);
    assert.equal(whole.other.length + whole.payload.length + 4 * 3 + 2 * 3 + 2 + 8, stream.length);
    for (let at = 0; at <= stream.length; at++)
      assert.deepEqual(read(stream.subarray(0, at), stream.subarray(at)), whole, `split at ${at}`);
  });

  it('are read one byte at a time', () => {
    assert.deepEqual(read(...Array.from(stream, (byte) => Buffer.of(byte))), read(stream));
  });

  for (const length of [1, 3, 47, 48, 49, 125, 126, 127, 4095, 65_535, 65_536]) {
    it(`give a message of ${length} bytes, wherever its memory begins`, () => {
      const payload = randomBytes(length);
      for (let shift = 0; shift < 8; shift++) {
        const before = frame(Buffer.alloc(shift + 1));
        const { payload: taken, other } = read(Buffer.concat([before, frame(payload)]));
        assert.deepEqual(taken.subarray(shift + 1), payload);
        assert.equal(other.length, 0);
      }
    });
  }

  it('say how much of a message is still to come', () => {
    const lefts: number[] = [];
    const frames = new WebSocketDataFrames(
      { maxBytes: mostBytes },
      { payload: (_, left) => lefts.push(left), other: () => assert.fail() },
    );
    const [first, second] = [frame(Buffer.alloc(10)), frame(Buffer.alloc(3))];
    frames.push(Buffer.concat([first, second]).subarray(0, 10));
    frames.push(Buffer.concat([first, second]).subarray(10));
    assert.deepEqual(lefts, [6, 0, 0]);
  });

  it('go on after a text message where those are wanted', () => {
    const texts: Buffer[] = [];
    const payload: Buffer[] = [];
    const frames = new WebSocketDataFrames(
      { maxBytes: mostBytes, passesText: true },
      {
        payload: (bytes) => payload.push(Buffer.from(bytes)),
        other: (bytes) => texts.push(Buffer.from(bytes)),
      },
    );
    const text = frame(Buffer.from('ack at=1'), { first: 0x81 });
    const all = Buffer.concat([frame(Buffer.from('one ')), text, ping(''), text, frame(Buffer.from('two'))]);
    for (const byte of all) frames.push(Buffer.of(byte));
    assert.equal(Buffer.concat(payload).toString(), 'one two');
    assert.equal(Buffer.concat(texts).length, 2 * text.length + ping('').length);
  });

  const refused: Readonly<Record<string, Buffer>> = {
    'a text message': frame(Buffer.from('text'), { first: 0x81 }),
    'a fragment': frame(Buffer.from('ab'), { first: 0x02 }),
    'an empty fragment': frame(empty, { first: 0x02 }),
    'a continuation': frame(Buffer.from('ab'), { first: 0x80 }),
    'a Close': frame(Buffer.from([3, 232]), { first: 0x88 }),
    'a message that is too long': frame(Buffer.alloc(mostBytes + 1)),
    'a message of 2^53 bytes': Buffer.from([0x82, 0xff, 0, 0x20, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
    'a message of 2^64 - 1 bytes': Buffer.from([0x82, 0xff, ...Buffer.alloc(8, 255), 1, 2, 3, 4]),
    'a message without a mask': Buffer.from([0x82, 2, 1, 2]),
    'an empty message without a mask': Buffer.from([0x82, 0]),
    'a ping without a mask': Buffer.from([0x89, 0]),
    'a fragmented ping': frame(empty, { first: 0x09 }),
    'a ping that is too long': frame(Buffer.alloc(126), { first: 0x89 }),
    'a reserved bit': frame(Buffer.from('ab'), { first: 0xc2 }),
    'another reserved bit': frame(Buffer.from('ab'), { first: 0x92 }),
    'a reserved opcode': frame(Buffer.from('ab'), { first: 0x83 }),
    'a reserved control opcode': frame(Buffer.from('ab'), { first: 0x8b }),
  };
  for (const [what, bytes] of Object.entries(refused)) {
    it(`leave ${what} and all that follows to others, byte for byte`, () => {
      const after = frame(Buffer.from('after'));
      const all = Buffer.concat([frame(Buffer.from('before')), bytes, after]);
      for (let at = 1; at < Math.min(all.length, 64); at++) {
        const { payload, other } = read(all.subarray(0, at), all.subarray(at));
        assert.equal(payload.toString(), 'before');
        assert.deepEqual(other, Buffer.concat([bytes, after]));
      }
    });
  }

  it('bring what ws makes of them, split anyhow', () => {
    const message = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
    const first = fc.constantFrom(0x82, 0x82, 0x82, 0x82, 0x89, 0x8a);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(first, message)),
        fc.infiniteStream(fc.integer({ min: 1, max: 400 })),
        (list, steps) => {
          const all = Buffer.concat(
            list.map(([kind, payload]) =>
              frame(payload.subarray(0, kind === 0x82 ? 300 : 125), { first: kind }),
            ),
          );
          const chunks: Buffer[] = [];
          for (let at = 0; at < all.length;) {
            const step = steps.next().value as number;
            chunks.push(all.subarray(at, (at += step)));
          }
          assertSame(chunks);
        },
      ),
      { numRuns: 1000 },
    );
  });

  // Any bytes are payload or passed on as they are, and `ws` reports the same with this reader before it as without.
  it('bring what ws makes of them, whatever the bytes', async () => {
    const heads = fc.constantFrom(
      [0x82, 0x81],
      [0x82, 0x85],
      [0x02, 0x82],
      [0x80, 0x81],
      [0x89, 0x80],
      [0x88, 0x82],
    );
    const noise = fc.uint8Array({ maxLength: 24 });
    const same = fc.property(fc.array(fc.tuple(heads, noise), { maxLength: 6 }), fc.nat(40), (list, at) => {
      const all = Buffer.concat(list.flatMap(([head, bytes]) => [Buffer.from(head), Buffer.from(bytes)]));
      const chunks = [all.subarray(0, at), all.subarray(at)].filter(({ length }) => length > 0);
      assertSame(chunks);
    });
    for (let count = 0; count < fuzzRuns; count += runsInTurn) {
      fc.assert(same, { numRuns: runsInTurn });
      // What `ws` has put off to the end of the turn would fill the memory.
      await new Promise(setImmediate);
    }
  });
});

/** What a receiver of `ws` reports, with data frames read before it or not. */
interface Reported {
  readonly bytes: string;
  readonly events: string;
  /** By a Close, or an error. */
  readonly over: boolean;
}

/** Alone, `ws` waits for the end of a message; until it arrives, the reader before it can have reported more. */
function assertSame(chunks: readonly Buffer[]): void {
  const [filtered, plain] = [reported(chunks, true), reported(chunks, false)];
  const bytes = filtered.over ? filtered.bytes : filtered.bytes.slice(0, plain.bytes.length);
  assert.deepEqual({ ...filtered, bytes }, plain);
}

function reported(chunks: readonly Buffer[], filtered: boolean): Reported {
  let bytes = '';
  let events = '';
  const receiver = new Receiver({ isServer: true, maxPayload: mostBytes });
  receiver.on('message', (data: Buffer, isBinary: boolean) => {
    if (isBinary && data.length > 0) bytes += data.toString('hex');
    else events += isBinary ? 'end ' : 'text ';
  });
  receiver.on('ping', (data: Buffer) => (events += `ping${data.toString('hex')}@${bytes.length} `));
  receiver.on('pong', (data: Buffer) => (events += `pong${data.toString('hex')}@${bytes.length} `));
  receiver.on('conclude', (code: number) => (events += `close${code} `));
  receiver.on('error', () => {});
  // As `ws` does: what comes after an error or a Close is not looked at.
  const receive = (each: Buffer): void => {
    if (!receiver.errored && !receiver.writableEnded) receiver.write(Buffer.from(each));
  };
  const frames = new WebSocketDataFrames(
    { maxBytes: mostBytes },
    {
      payload: (payload) => (bytes += payload.toString('hex')),
      other: receive,
    },
  );
  for (const chunk of chunks) {
    if (filtered) frames.push(Buffer.from(chunk));
    else receive(chunk);
  }
  return { bytes, events, over: Boolean(receiver.errored) || receiver.writableEnded };
}
