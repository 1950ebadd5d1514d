import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import type { RelayFrame } from '../../../protocol/relay-frame.ts';
import { relayV1 } from '../../../protocol/relay-v1.ts';
import { inboundWebSocketCarrier } from '../../../stream/zero-copy/inbound-websocket-carrier.ts';
import type { Carrier, CarrierEnd } from '../../../stream/carrier.ts';

interface Opened {
  readonly peer: WebSocket;
  readonly carrier: Carrier;
  /** How many binary messages `ws` has read. */
  readonly readByWs: () => number;
}

describe('inboundWebSocketCarrier()', () => {
  let server: WebSocketServer;
  before(async () => {
    server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
    await once(server, 'listening');
  });
  after(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });

  async function open(): Promise<Opened> {
    const accepted = new Promise<Omit<Opened, 'peer'>>((resolve) => {
      server.once('connection', (socket: WebSocket, { socket: connection }: { socket: Socket }) => {
        let count = 0;
        socket.on('message', (_: Buffer, isBinary: boolean) => void (count += Number(isBinary)));
        const carrier = inboundWebSocketCarrier(socket, relayV1, connection);
        resolve({ carrier, readByWs: () => count });
      });
    });
    const peer = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    peer.on('error', () => {});
    await once(peer, 'open');
    return { peer, ...(await accepted) };
  }

  it('passes on data and text messages in the order in which they were sent, and reads the data without ws', async () => {
    const { peer, carrier, readByWs } = await open();
    const sent = Array.from({ length: 60 }, (_, at) => randomBytes(1 + ((at * 7919) % (64 * 1024))));
    for (const [at, bytes] of sent.entries()) {
      peer.send(bytes);
      peer.send(`ack at=${at}`);
      if (at % 10 === 0) peer.ping();
    }
    peer.close(4321, 'over');
    const [frames, end] = await received(carrier);
    assert.deepEqual(end, { how: 'closed', code: 4321, reason: 'over' });
    assert.deepEqual(
      frames,
      sent.flatMap((bytes, at): RelayFrame[] => [
        { kind: 'data', bytes },
        { kind: 'ack', at },
      ]),
    );
    assert.equal(readByWs(), 0);
  });

  it('receives fragments too, by ws', async () => {
    const { peer, carrier, readByWs } = await open();
    peer.send('in two ', { binary: true, fin: false });
    peer.send('pieces', { binary: true, fin: true });
    peer.close(1000);
    const [frames] = await received(carrier);
    assert.deepEqual(frames, [{ kind: 'data', bytes: Buffer.from('in two pieces') }]);
    assert.equal(readByWs(), 1);
  });

  it('refuses what ws refuses', async () => {
    const { peer, carrier } = await open();
    const { _socket: connection } = peer as unknown as { _socket: Socket };
    const closed = once(peer, 'close');
    void received(carrier);
    connection.write(Buffer.of(0x83, 0x80, 1, 2, 3, 4));
    assert.equal((await closed)[0], 1002);
  });

  it('writes what ws reads', async () => {
    const { peer, carrier } = await open();
    const sent = [1, 125, 126, 65_535, 65_536].map((length) => randomBytes(length));
    const received: Buffer[] = [];
    peer.on('message', (bytes: Buffer) => received.push(bytes));
    for (const bytes of sent) carrier.send({ kind: 'data', bytes });
    carrier.close(1000, '');
    await once(peer, 'close');
    assert.deepEqual(received, sent);
  });

  it('holds back a peer while it is paused', async () => {
    const { peer, carrier } = await open();
    let taken = 0;
    const all = Promise.withResolvers<void>();
    carrier.listen({
      frame() {
        if (++taken === 1000) all.resolve();
      },
      drained() {},
      ended() {},
    });
    carrier.pause();
    // More than the kernel's buffers hold.
    const bytes = randomBytes(64 * 1024);
    for (let count = 0; count < 1000; count++) peer.send(bytes);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.ok(taken < 10, `${taken} messages`);
    assert.ok(peer.bufferedAmount > 0);
    carrier.resume();
    await all.promise;
    peer.terminate();
  });
});

/** All frames, and how it ended. */
function received(carrier: Carrier): Promise<[readonly RelayFrame[], CarrierEnd]> {
  const frames: RelayFrame[] = [];
  return new Promise((resolve) => {
    carrier.listen({
      frame(frame) {
        if (frame.kind === 'data') {
          frames.push({ kind: 'data', bytes: Buffer.from(frame.bytes) });
          // The next message can be in the same buffer.
          frame.release?.();
        } else frames.push(frame);
      },
      drained() {},
      ended: (end) => resolve([frames, end]),
    });
  });
}
