import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import { relayV1 } from '../../protocol/relay-v1.ts';
import { inboundWebSocketCarrier } from '../../stream/zero-copy/inbound-websocket-carrier.ts';
import type { Carrier } from '../../stream/carrier.ts';
import { RelayStream } from '../../stream/relay-stream.ts';

describe('a RelayStream that is pinged', () => {
  let server: WebSocketServer;
  before(async () => {
    server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    await once(server, 'listening');
  });
  after(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });

  async function open(): Promise<{ stream: RelayStream; carrier: Carrier; peer: WebSocket }> {
    const accepted = once(server, 'connection') as Promise<[WebSocket, { socket: Socket }]>;
    const peer = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    peer.on('error', () => {});
    await once(peer, 'open');
    const [socket, { socket: connection }] = await accepted;
    const carrier = inboundWebSocketCarrier(socket, relayV1, connection);
    const stream = new RelayStream({ isV4: false, windowBytes: 256 * 1024 });
    stream.on('error', () => {});
    stream.attach(carrier, { peerReceived: 0, from: 0 });
    return { stream, carrier, peer };
  }

  it('answers with the same id', async () => {
    const { stream, peer } = await open();
    peer.send('ping id=7');
    assert.equal(String((await once(peer, 'message'))[0]), 'pong id=7');
    stream.destroy();
  });

  it('keeps no answers for a peer that does not read them, and gives the last one when it does', async () => {
    const { stream, carrier, peer } = await open();
    (peer as unknown as { _socket: Socket })._socket.pause();
    const pings = 400_000;
    let most = 0;
    for (let id = 1; id <= pings; id++) {
      if (id % 1000 !== 0) peer.send(`ping id=${id}`);
      else await new Promise((resolve) => peer.send(`ping id=${id}`, resolve));
      most = Math.max(most, carrier.waitingBytes);
    }
    // The data comes after all pings on the same connection.
    peer.send(Buffer.from('x'));
    await once(stream, 'data');
    most = Math.max(most, carrier.waitingBytes);
    assert.ok(most < 64 * 1024, `${most} bytes wait`);
    const answered = new Promise<void>((resolve) =>
      peer.on('message', (message: Buffer) => {
        if (message.toString() === `pong id=${pings}`) resolve();
      }),
    );
    (peer as unknown as { _socket: Socket })._socket.resume();
    await answered;
    stream.destroy();
  });
});
