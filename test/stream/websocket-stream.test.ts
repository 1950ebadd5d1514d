import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { webSocketStream } from '../../stream/websocket-stream.ts';
import type { WebSocketStreamOptions } from '../../stream/websocket-stream.ts';
import { collect, outcome } from '../server/support/peers.ts';

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

  it('splits what is longer than a message may be, and never sends an empty one before the end', async () => {
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

  it('tells a peer that knows nothing better its end by Close 1000, after every byte', async () => {
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

  it('breaks off when it is destroyed: the peer sees no orderly Close', async () => {
    const [stream, peer] = await pair({ eof: 'message' });
    stream.destroy();
    const [code] = (await once(peer, 'close')) as [number];
    assert.equal(code, 1006);
  });

  it('pings, and gives a peer up that answers nothing', async () => {
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

  it('does not give a peer up whose answers wait behind bytes nobody reads', async () => {
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
