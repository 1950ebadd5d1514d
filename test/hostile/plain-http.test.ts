// The plain transport against clients, and things on the way, that do what they like.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { after, before, beforeEach, describe, it } from 'node:test';
import {
  dial,
  exchange,
  startEcho,
  startParts,
  startTarget,
  statusOf,
} from '../server/support/gateway-parts.ts';
import type { Parts } from '../server/support/gateway-parts.ts';
import { carriedIn, data, head, HttpWire, record, signed, text, upFields } from './support/http-wire.ts';
import type { Carried } from './support/http-wire.ts';
import { rejoinFields } from './support/relay-wire.ts';

describe('the plain transport', () => {
  let parts: Parts;
  let echo: { port: number; close(): void };
  let wire: HttpWire;
  let carried: Carried;

  before(async () => {
    parts = await startParts();
    echo = await startEcho();
    wire = new HttpWire(parts.port);
  });
  after(async () => {
    wire.close();
    echo.close();
    await parts.close();
  });
  beforeEach(async () => {
    carried = await wire.open(echo.port);
  });

  /** That the carrier still carries: `words` come back, from these numbers on. */
  async function works(words: string, upNumber = 0, downNumber = 1): Promise<void> {
    assert.equal((await wire.up(carried, upNumber, record(data, words))).status, 204);
    let heard = '';
    for (let number = downNumber; heard.length < words.length; number++) {
      const { status, records } = await wire.down(carried, number);
      assert.equal(status, 200);
      heard += records
        .filter(({ type }) => type === data)
        .map(({ bytes }) => bytes.toString())
        .join('');
    }
    assert.equal(heard, words);
  }

  it('works as it is documented', async () => {
    assert.match(carried.greeting, /^opened sid=\S+ secret=\S+ window=\d+ keep=\d+$/);
    await works('hello');
  });

  it('marks each answer as private, and not to be stored, changed or buffered', async () => {
    await wire.up(carried, 0, record(data, 'x'));
    const { headers } = await wire.down(carried, 1, 'brief', { 'accept-encoding': 'gzip, br' });
    assert.equal(headers['cache-control'], 'no-store, no-transform');
    assert.equal(headers['x-accel-buffering'], 'no');
    assert.equal(headers['content-encoding'], undefined);
    assert.equal(headers['x-content-type-options'], 'nosniff');
  });

  const strangers: Readonly<Record<string, (carried: Carried) => Carried>> = {
    'another secret': (known) => ({ ...known, secret: randomBytes(32).toString('base64url') }),
    'another id': (known) => ({ ...known, id: randomBytes(16).toString('base64url') }),
    'no secret': (known) => ({ ...known, secret: '' }),
  };
  for (const [what, change] of Object.entries(strangers)) {
    it(`gives and takes nothing for ${what}, in the same words, and the carrier goes on`, async () => {
      const stranger = change(carried);
      const answers = [
        await wire.down(stranger, 1),
        await wire.down(stranger, 1, 'down'),
        await wire.up(stranger, 0, record(data, 'evil')),
      ];
      for (const { status, code } of answers) assert.deepEqual([status, code], [410, 'TUNNEL_GONE']);
      await works('hello');
    });
  }

  it('takes a signature for one way and number only', async () => {
    for (const fields of [
      signed(carried, 'up', 1),
      signed(carried, 'down', 1),
      signed(carried, 'brief', 2),
    ]) {
      const wrong = { 'postern-carrier': fields['postern-carrier'].replace(/n=\d+/, 'n=1') };
      const { status } = await wire.ask('GET', 'brief', wrong);
      assert.equal(status, 410, fields['postern-carrier']);
    }
    await works('hello');
  });

  it('takes each number once, in order, and a repeated request changes nothing', async () => {
    const body = record(data, 'once ');
    assert.equal((await wire.up(carried, 0, body)).status, 204);
    for (const number of [0, 2, 77]) {
      const { status, code } = await wire.up(carried, number, body);
      assert.deepEqual([status, code], [409, 'REJOIN_INVALID'], `${number}`);
    }
    for (const number of [0, 2]) assert.equal((await wire.down(carried, number)).status, 409);
    const first = await wire.down(carried, 1);
    assert.ok(first.records.some(({ bytes }) => bytes.toString() === 'once '));
    assert.equal((await wire.down(carried, 1)).status, 409);
    await works('hello', 1, 2);
  });

  for (const [what, field] of [
    ['no field', undefined],
    ['half a field', 'id=abc, n=1'],
    ['a negative number', `id=${'a'.repeat(22)}, n=-1, mac=${'a'.repeat(43)}`],
    ['a number like 01', `id=${'a'.repeat(22)}, n=01, mac=${'a'.repeat(43)}`],
    ['more than there is', `id=${'a'.repeat(22)}, n=1, mac=${'a'.repeat(43)}, x=y`],
    ['a path', `id=${'../'.repeat(8)}, n=1, mac=${'a'.repeat(43)}`],
  ] as const) {
    it(`refuses ${what} as unreadable`, async () => {
      const fields = field === undefined ? {} : { 'postern-carrier': field };
      const { status, code } = await wire.ask('GET', 'down', fields);
      assert.deepEqual([status, code], [400, 'REQUEST_INVALID']);
    });
  }

  it('asks for a token like every entry, and an id is none', async () => {
    for (const fields of [{}, signed(carried, 'connect', 0), { authorization: 'Bearer bad' }]) {
      const path = `connect?host=127.0.0.1&port=${echo.port}`;
      const { status, code, headers } = await wire.ask('POST', path, { ...fields, 'content-length': '0' });
      assert.deepEqual([status, code], [401, 'TOKEN_INVALID']);
      assert.equal(headers.connection, 'close');
    }
  });

  it('does not open for a web page that is not listed, nor for a request with a body', async () => {
    const path = `connect?host=127.0.0.1&port=${echo.port}`;
    const fields = { authorization: 'Bearer good' };
    const page = await wire.ask('POST', path, {
      ...fields,
      origin: 'https://evil.example',
      'content-length': '0',
    });
    assert.deepEqual([page.status, page.code], [403, 'ORIGIN_DENIED']);
    const body = await wire.ask('POST', path, { ...fields, 'content-length': '4' }, Buffer.from('body'));
    assert.deepEqual([body.status, body.code], [400, 'REQUEST_INVALID']);
  });

  it('reads no second request out of a body', async () => {
    const inner = `POST /ssh/http/connect?host=127.0.0.1&port=${echo.port} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer good\r\nContent-Length: 0\r\n\r\n`;
    const before = parts.sessions.count;
    for (const framing of [
      `Content-Length: 0\r\nTransfer-Encoding: chunked\r\n`,
      `Transfer-Encoding: chunked\r\nContent-Length: ${inner.length}\r\n`,
      `Content-Length: 0\r\nContent-Length: ${inner.length}\r\n`,
      `Transfer-Encoding: chunked, identity\r\n`,
    ]) {
      const field = signed(carried, 'up', 0)['postern-carrier'];
      const request = `POST /ssh/http/up HTTP/1.1\r\nHost: a\r\nPostern-Carrier: ${field}\r\n${framing}\r\n${inner}`;
      assert.equal(statusOf(await exchange(parts.port, request)), 400, framing);
    }
    const twice = `GET /ssh/http/brief HTTP/1.1\r\nHost: a\r\nConnection: close\r\nPostern-Carrier: a\r\nPostern-Carrier: b\r\n\r\n`;
    assert.equal(statusOf(await exchange(parts.port, twice)), 400);
    assert.equal(parts.sessions.count, before);
    await works('hello');
  });

  for (const [what, body] of [
    ['a record that is longer than any', Buffer.of(data, 0xff, 0xff, 0xff)],
    ['half a record', record(data, 'hello').subarray(0, 6)],
    [
      'more than a request may bring',
      Buffer.concat(Array.from({ length: 20 }, () => record(0, Buffer.alloc(60_000)))),
    ],
  ] as const) {
    it(`ends the carrier, and not the tunnel, for ${what}`, async () => {
      const { status, code } = await wire.up(carried, 0, body);
      assert.deepEqual([status, code], [400, 'REQUEST_INVALID']);
      assert.equal((await wire.down(carried, 1)).status, 410);
      assert.ok(parts.relays.detachedCount > 0);
    });
  }

  it('ends the tunnel of a client that breaks the rules of the relay', async () => {
    const from = parts.ended.length;
    await wire.up(carried, 0, record(text, 'ack at=4711'));
    await parts.endedCount(from + 1);
    assert.equal(parts.ended.at(-1)!.end, 'CLIENT_LOST');
  });

  it('sends no more back for an echo than it got', async () => {
    await wire.up(carried, 0, record(5, Buffer.alloc(60_000)));
    const { body } = await wire.down(carried, 1);
    assert.ok(body.length < 100, `${body.length} bytes`);
  });

  it('gives up a carrier whose request is cut in the middle', async () => {
    const whole = record(data, 'whole');
    const request = wire.begin('POST', 'up', upFields(carried, 0, 100));
    request.write(whole);
    const { records } = await wire.down(carried, 1);
    assert.ok(records.some(({ bytes }) => bytes.toString() === 'whole'));
    request.destroy();
    const { status } = await wire.down(carried, 2).catch(() => ({ status: 410 }));
    assert.equal(status, 410);
  });

  it('lets no second request in while one is coming, nor a second answer while one is open', async () => {
    const request = wire.begin('POST', 'up', upFields(carried, 0, 13));
    request.write(record(data, 'half'));
    const open = wire.begin('GET', 'down', signed(carried, 'down', 1));
    open.end();
    const response = await head(open);
    assert.equal((await wire.up(carried, 1, record(data, 'second'))).status, 409);
    assert.equal((await wire.down(carried, 2)).status, 409);
    request.end(record(data, 'x').subarray(0, 5));
    assert.equal((await head(request)).statusCode, 204);
    response.destroy();
  });

  it('holds a target back whose client does not read, and keeps little', async () => {
    const sent = Promise.withResolvers<number>();
    const flood = await startTarget((socket) => {
      const chunk = Buffer.alloc(64 * 1024);
      let count = 0;
      const write = (): void => {
        while (count < 64 * 1024 * 1024 && socket.write(chunk)) count += chunk.length;
        setImmediate(() => sent.resolve(count));
      };
      socket.on('drain', write);
      write();
    });
    const reader = await wire.open(flood.port);
    const socket = await dial(parts.port);
    const field = signed(reader, 'down', 1)['postern-carrier'];
    socket.write(`GET /ssh/http/down HTTP/1.1\r\nHost: a\r\nPostern-Carrier: ${field}\r\n\r\n`);
    await once(socket, 'readable');
    await sent.promise;
    assert.ok(parts.relays.unackedBytes <= 2 * 256 * 1024, `${parts.relays.unackedBytes} bytes`);
    socket.destroy();
    flood.close();
  });

  it('goes on with a tunnel whose carrier was lost, for a client that knows its secret', async () => {
    const [, sid, secret] = /sid=(\S+) secret=(\S+)/.exec(carried.greeting)!;
    await wire.up(carried, 0, record(data, 'before'));
    const known = { sid: sid!, secret: secret! };
    const ask = (fields: Record<string, string>) =>
      wire.ask('POST', `reconnect?sid=${sid}&ack=0`, {
        authorization: 'Bearer good',
        'content-length': '0',
        ...fields,
      });
    const wrong = await ask(rejoinFields({ ...known, secret: 'other' }, { count: 1 }));
    assert.deepEqual([wrong.status, wrong.code], [410, 'TUNNEL_GONE']);
    const unsigned = await ask({});
    assert.deepEqual([unsigned.status, unsigned.code], [400, 'REQUEST_INVALID']);
    const old = carried;
    const answer = await ask(rejoinFields(known, { count: 1 }));
    carried = carriedIn(answer);
    assert.match(carried.greeting, /^joined received=6 from=0$/);
    assert.notEqual(carried.id, old.id);
    assert.equal((await wire.down(old, 1)).status, 410);
    const again = await ask(rejoinFields(known, { count: 1 }));
    assert.deepEqual([again.status, again.code], [409, 'REJOIN_INVALID']);
  });
});
