import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { readDirect } from '../../stream/zero-copy/direct-reads.ts';
import { webSocketStream } from '../../stream/websocket-stream.ts';
import type { WebSocketStreamOptions } from '../../stream/websocket-stream.ts';
import { collect, outcome } from '../server/support/peers.ts';

/** A client's frame, with a mask of zeros. */
function raw(first: number, payload = ''): Buffer {
  return Buffer.concat([Buffer.from([first, 0x80 | payload.length, 0, 0, 0, 0]), Buffer.from(payload)]);
}

/** Sends bytes as they are. */
function sendRaw(peer: WebSocket, ...frames: readonly Buffer[]): void {
  (peer as unknown as { _socket: Socket })._socket.write(Buffer.concat(frames));
}

describe('a stream over a WebSocket', () => {
  let server: WebSocketServer;
  before(async () => {
    server = new WebSocketServer({ host: '127.0.0.1', port: 0, maxPayload: 64 * 1024 });
    await once(server, 'listening');
  });
  after(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });

  /** Our stream on the server's side, and a bare WebSocket as its peer. */
  async function pair(
    options: WebSocketStreamOptions,
    more: WebSocket.ClientOptions = {},
  ): Promise<[Duplex, WebSocket]> {
    const accepted = new Promise<Duplex>((resolve) => {
      server.once('connection', (socket) => resolve(webSocketStream(socket, options)));
    });
    const peer = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`, more);
    peer.on('error', () => {});
    await once(peer, 'open');
    return [await accepted, peer];
  }

  it('takes an empty message as the end, and goes on writing', async () => {
    const [stream, peer] = await pair({ eof: 'message' });
    const messages: number[] = [];
    peer.on('message', (data: Buffer) => messages.push(data.length));
    peer.send('ab', { binary: true });
    peer.send(Buffer.alloc(0));
    assert.equal((await collect(stream)).toString(), 'ab');
    stream.end('later');
    const [code] = (await once(peer, 'close')) as [number];
    assert.deepEqual(messages, [5, 0]);
    assert.equal(code, 1000);
  });

  it('splits what is longer than a message can be, and never sends an empty one before the end', async () => {
    const [stream, peer] = await pair({ eof: 'message' });
    const lengths: number[] = [];
    peer.on('message', (data: Buffer) => lengths.push(data.length));
    for (const length of [0, 1, 65_535, 65_536, 65_537, 200_000]) stream.write(Buffer.alloc(length));
    stream.end();
    while (lengths.at(-1) !== 0) await once(peer, 'message');
    assert.ok(Math.max(...lengths) <= 65_536);
    assert.equal(lengths.indexOf(0), lengths.length - 1);
    assert.equal(
      lengths.reduce((sum, length) => sum + length),
      1 + 65_535 + 65_536 + 65_537 + 200_000,
    );
    stream.destroy();
  });

  it('sends its end as Close 1000 to a peer without the subprotocol, after every byte', async () => {
    const [stream, peer] = await pair({ eof: 'close' });
    const bytes: Buffer[] = [];
    peer.on('message', (data: Buffer) => bytes.push(data));
    stream.resume();
    stream.end(Buffer.alloc(300_000, 1));
    const [code] = (await once(peer, 'close')) as [number];
    assert.equal(code, 1000);
    assert.equal(Buffer.concat(bytes).length, 300_000);
  });

  it('takes Close 1000 of such a peer as its end', async () => {
    const [stream, peer] = await pair({ eof: 'close' });
    peer.send(Buffer.from('ab'));
    peer.close(1000);
    assert.equal((await collect(stream)).toString(), 'ab');
    stream.end();
    await once(stream, 'close');
  });

  const breaks: [what: string, eof: 'message' | 'close', leave: (peer: WebSocket) => void][] = [
    ['a Close before the end', 'message', (peer) => peer.close(1000)],
    ['a Close 1001', 'close', (peer) => peer.close(1001)],
    ['a connection that is gone', 'close', (peer) => peer.terminate()],
    ['a text message', 'message', (peer) => peer.send('text')],
    ['a message that is too long', 'message', (peer) => peer.send(Buffer.alloc(65_537))],
    [
      'data after the end',
      'message',
      (peer) => {
        peer.send(Buffer.alloc(0));
        peer.send(Buffer.from('more'));
      },
    ],
  ];
  for (const [what, eof, leave] of breaks) {
    it(`fails with ${what}`, async () => {
      const [stream, peer] = await pair({ eof });
      const failed = new Promise((resolve) => stream.once('error', resolve));
      stream.resume();
      leave(peer);
      assert.ok((await failed) instanceof Error);
      if (peer.readyState !== peer.CLOSED) await once(peer, 'close');
    });
  }

  /** A stream that reads directly, what it has passed on, and a bare WebSocket as its peer. */
  async function readDirectly(
    options: WebSocketStreamOptions,
    take: () => boolean = () => true,
  ): Promise<{ stream: Duplex; peer: WebSocket; passed: () => string }> {
    const bytes: Buffer[] = [];
    const accepted = new Promise<Duplex>((resolve) => {
      server.once('connection', (socket, { socket: connection }) => {
        const made = webSocketStream(socket, { ...options, connection });
        resolve(made);
        // Not in the turn of the handshake, as in the gateway.
        setImmediate(() => {
          readDirect(made, (chunk, release) => {
            bytes.push(Buffer.from(chunk));
            release();
            return take();
          });
        });
      });
    });
    const peer = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    peer.on('error', () => {});
    await once(peer, 'open');
    return { stream: await accepted, peer, passed: () => Buffer.concat(bytes).toString('latin1') };
  }

  for (const [what, eof, leave] of breaks) {
    it(`fails with ${what}, read directly`, async () => {
      const { stream, peer } = await readDirectly({ eof });
      const failed = new Promise((resolve) => stream.once('error', resolve));
      leave(peer);
      assert.ok((await failed) instanceof Error);
      if (peer.readyState !== peer.CLOSED) await once(peer, 'close');
    });
  }

  it('passes on the bytes, answers pings between them, and ends', async () => {
    const { stream, peer, passed } = await readDirectly({ eof: 'message' });
    const ended = once(stream, 'end');
    const answered = once(peer, 'pong') as Promise<[Buffer]>;
    peer.send('ab', { binary: true });
    peer.ping('are you there');
    peer.send(Buffer.alloc(60_000, 'c'));
    peer.send(Buffer.from('d'), { fin: false });
    peer.send(Buffer.alloc(0), { fin: false });
    peer.ping();
    peer.send(Buffer.from('e'), { fin: true });
    peer.send(Buffer.from('f'));
    peer.send(Buffer.alloc(0));
    await ended;
    assert.equal(passed(), `ab${'c'.repeat(60_000)}def`);
    assert.equal((await answered)[0].toString(), 'are you there');
    stream.end('later');
    const [message] = (await once(peer, 'message')) as [Buffer];
    assert.equal(message.toString(), 'later');
    const [code] = (await once(peer, 'close')) as [number];
    assert.equal(code, 1000);
  });

  for (const [what, code, frame] of [
    ['a text message', 1003, raw(0x81, 'x')],
    ['a text message that is no UTF-8', 1007, Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0xff])],
    ['a frame without a mask', 1002, Buffer.from([0x82, 1, 0x61])],
    ['a continuation of nothing', 1002, raw(0x80, 'x')],
    ['a reserved bit', 1002, raw(0xc2, 'x')],
    ['a reserved opcode', 1002, raw(0x83, 'x')],
    ['a fragmented ping', 1002, raw(0x09, 'x')],
    ['a ping of 126 bytes', 1002, Buffer.from([0x89, 0xfe, 0, 126, 0, 0, 0, 0])],
    ['a Close of one byte', 1002, raw(0x88, 'x')],
    ['a message of 65,537 bytes', 1009, Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0])],
    ['an empty message, and more', 1002, Buffer.concat([raw(0x82), raw(0x82, 'x')])],
    ['a Close', 1000, Buffer.concat([raw(0x88, '\x03\xe8').subarray(0, 6), Buffer.from([3, 0xe8])])],
  ] as const) {
    it(`passes on nothing that comes after ${what}, and closes with ${code}`, async () => {
      const { stream, peer, passed } = await readDirectly({ eof: 'message' });
      stream.on('error', () => {});
      sendRaw(peer, raw(0x82, 'before'), frame, raw(0x82, 'after'), raw(0x82));
      const [closed] = (await once(peer, 'close')) as [number];
      assert.equal(closed, code);
      assert.equal(passed(), 'before');
    });
  }

  it('writes messages of every length, and answers pings between them', async () => {
    const { stream, peer } = await readDirectly({ eof: 'message' });
    const lengths: number[] = [];
    const bytes: Buffer[] = [];
    peer.on('message', (data: Buffer, isBinary: boolean) => {
      assert.ok(isBinary);
      lengths.push(data.length);
      bytes.push(data);
    });
    const sent = randomBytes(300_000);
    const answered = new Promise<void>((resolve) => {
      peer.on('pong', (data) => {
        if (data.toString() === '200000') resolve();
      });
    });
    for (const length of [0, 1, 125, 126, 65_535, 65_536, 65_537, 131_072, 200_000]) {
      stream.write(sent.subarray(0, length));
      peer.ping(String(length));
    }
    stream.end();
    while (lengths.at(-1) !== 0) await once(peer, 'message');
    await answered;
    assert.deepEqual(
      lengths,
      [1, 125, 126, 65_535, 65_536, 65_536, 1, 65_536, 65_536, 65_536, 65_536, 65_536, 3392, 0],
    );
    assert.deepEqual(Buffer.concat(bytes).subarray(-200_000), sent.subarray(0, 200_000));
    stream.destroy();
  });

  it('reads no more while there is no room', async () => {
    let room = 0;
    const { stream, peer, passed } = await readDirectly({ eof: 'message' }, () => room-- > 0);
    const ended = once(stream, 'end');
    const bytes = 2 * 1024 * 1024;
    for (let sent = 0; sent < bytes; sent += 65_536) peer.send(Buffer.alloc(65_536, 'x'));
    peer.send(Buffer.alloc(0));
    for (let passedBefore = -1; passed().length < bytes; passedBefore = passed().length) {
      assert.ok(passed().length - passedBefore <= 256 * 1024);
      await new Promise((resolve) => setImmediate(resolve));
      stream.resume();
    }
    stream.resume();
    await ended;
    assert.equal(passed().length, bytes);
    stream.destroy();
  });

  it('passes on what came with the handshake, and in one piece after the other', async () => {
    const accepted = new Promise<string>((resolve) => {
      server.once('connection', (socket, { socket: connection }) => {
        const made = webSocketStream(socket, { eof: 'message', connection });
        let text = '';
        made.on('error', () => {});
        made.on('end', () => resolve(text));
        setTimeout(() => {
          readDirect(made, (chunk) => Boolean((text += chunk.toString())));
        }, 20);
      });
    });
    const peer = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const head = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n';
    const key = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n';
    peer.write(Buffer.concat([Buffer.from(head + key), raw(0x82, 'one '), raw(0x82, 'two ').subarray(0, 8)]));
    peer.once('data', () => peer.write(Buffer.concat([raw(0x82, 'two ').subarray(8), raw(0x82)])));
    assert.equal(await accepted, 'one two ');
    peer.destroy();
  });

  it('breaks off when it is destroyed: the peer sees no orderly Close', async () => {
    const [stream, peer] = await pair({ eof: 'message' });
    stream.destroy();
    const [code] = (await once(peer, 'close')) as [number];
    assert.equal(code, 1006);
  });

  it('pings, and gives up a peer that answers nothing', async () => {
    const [alive, peer] = await pair({ eof: 'message', keepAliveMs: 20 });
    let pings = 0;
    peer.on('ping', () => pings++);
    alive.resume();
    // oxlint-disable-next-line no-unmodified-loop-condition
    while (pings < 6) await once(peer, 'ping');
    assert.equal(alive.destroyed, false);
    alive.destroy();
    const [dead] = await pair({ eof: 'message', keepAliveMs: 20 }, { autoPong: false });
    assert.equal(await outcome(dead), 'ECONNRESET');
  });

  it('does not give up a peer whose answers wait behind bytes that are not read', async () => {
    const [stream, peer] = await pair({ eof: 'message', keepAliveMs: 10 });
    const sent = 4 * 1024 * 1024;
    for (let at = 0; at < sent; at += 65_536) peer.send(Buffer.alloc(65_536));
    let pings = 0;
    peer.on('ping', () => pings++);
    // Nobody reads the stream for a good while.
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(stream.destroyed, false);
    peer.send(Buffer.alloc(0));
    assert.equal((await collect(stream)).length, sent);
    stream.destroy();
  });
});
