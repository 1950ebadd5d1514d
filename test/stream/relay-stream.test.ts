import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';
import { relayV1 } from '../../protocol/relay-v1.ts';
import { relayV4 } from '../../protocol/relay-v4.ts';
import type { RelayCodec } from '../../protocol/relay-frame.ts';
import { inboundWebSocketCarrier } from '../../stream/zero-copy/inbound-websocket-carrier.ts';
import { webSocketCarrier } from '../../stream/websocket-carrier.ts';
import type { CarrierEnd } from '../../stream/carrier.ts';
import { RelayStream } from '../../stream/relay-stream.ts';
import type { RelayStreamOptions } from '../../stream/relay-stream.ts';
import { tunnelEnded } from '../../stream/tunnel-ended.ts';

const windowBytes = 64 * 1024;

/** A real WebSocket, with both of its ends. */
interface Connection {
  readonly near: WebSocket;
  readonly far: WebSocket;
  readonly farSocket: Socket;
}

let port: number;
const server = createServer();
const webSockets = new WebSocketServer({ server, perMessageDeflate: false });
before(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ({ port } = server.address() as AddressInfo);
});
after(() => {
  for (const socket of webSockets.clients) socket.terminate();
  server.close();
  server.closeAllConnections();
});

async function openConnection(): Promise<Connection> {
  const near = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: false });
  near.on('error', () => {});
  const [[far, request]] = await Promise.all([
    once(webSockets, 'connection') as Promise<[WebSocket, { socket: Socket }]>,
    once(near, 'open'),
  ]);
  far.on('error', () => {});
  return { near, far, farSocket: request.socket };
}

/** Two streams that have agreed on where they stand, on a connection of their own. */
async function join(near: RelayStream, far: RelayStream, codec: RelayCodec = relayV1): Promise<Connection> {
  const line = await openConnection();
  attachBoth(near, far, { line, codec });
  return line;
}

function attachBoth(
  near: RelayStream,
  far: RelayStream,
  { line, codec = relayV1 }: { readonly line: Connection; readonly codec?: RelayCodec },
): void {
  const [nearTaken, farTaken] = [near.received, far.received];
  far.attach(inboundWebSocketCarrier(line.far, codec, line.farSocket), {
    peerReceived: nearTaken,
    from: farTaken,
  });
  near.attach(webSocketCarrier(line.near, codec), { peerReceived: farTaken, from: nearTaken });
}

function stream(more: Partial<RelayStreamOptions> = {}): RelayStream {
  const made = new RelayStream({ isV4: false, windowBytes, ...more });
  made.on('error', () => {});
  return made;
}

/** A stream, and the loss of its connection. */
function losing(more: Partial<RelayStreamOptions> = {}): { made: RelayStream; lost: Promise<CarrierEnd> } {
  const { promise, resolve } = Promise.withResolvers<CarrierEnd>();
  return { made: stream({ ...more, onDetached: resolve }), lost: promise };
}

/** Text messages that arrive at a bare WebSocket. */
function texts(socket: WebSocket): { readonly all: string[]; until(text: RegExp): Promise<string> } {
  const all: string[] = [];
  socket.on('message', (data: Buffer, isBinary) => {
    if (!isBinary) all.push(data.toString());
    socket.emit('text');
  });
  return {
    all,
    async until(text) {
      for (;;) {
        const found = all.find((one) => text.test(one));
        if (found !== undefined) return found;
        await once(socket, 'text');
      }
    },
  };
}

describe('a stream that outlives its connections', () => {
  it('finishes when the next connection starts after its EOF', async () => {
    const { made: near, lost } = losing();
    const first = await openConnection();
    const sent = texts(first.far);
    near.attach(webSocketCarrier(first.near, relayV1), { peerReceived: 0, from: 0 });
    near.end('x');
    await sent.until(/^end at=1/);
    first.farSocket.destroy();
    await lost;
    assert.equal(near.writableFinished, false);
    const second = await openConnection();
    near.attach(webSocketCarrier(second.near, relayV1), { peerReceived: 2, from: 0 });
    if (!near.writableFinished) await once(near, 'finish');
    near.destroy();
  });

  it('finishes when its EOF comes while its peer has not read everything', async () => {
    const [near, far] = [stream(), stream()];
    await join(near, far);
    near.end(Buffer.alloc(40_000, 'x'));
    far.end();
    near.resume();
    // Nothing is read until all of it, and the EOF, has arrived.
    while (!far.hasEnded) await turn();
    assert.equal(near.writableFinished, false);
    far.resume();
    await Promise.all([once(near, 'finish'), closed(far), closed(near)]);
    assert.equal(near.unackedBytes, 0);
  });

  it('acknowledges the last bytes before it closes', async () => {
    const { made: near, lost } = losing();
    const far = stream();
    await join(near, far);
    let wasLost = false;
    void lost.then(() => (wasLost = true));
    near.resume();
    near.end(Buffer.alloc(50_000));
    far.end('x');
    while (!far.hasEnded) await turn();
    far.resume();
    await closed(near);
    assert.equal(wasLost, false);
    assert.equal(near.writableFinished && near.readableEnded, true);
  });

  it('goes on when its reader has caught up while there was no connection', async () => {
    const { made: near, lost } = losing();
    const { made: far, lost: farLost } = losing();
    const line = await join(near, far);
    const sent = randomBytes(4 * windowBytes);
    far.end(sent);
    // A whole window waits for a reader; then the connection is lost, and a new one is requested.
    while (near.unreadBytes < windowBytes) await turn();
    line.farSocket.resetAndDestroy();
    await Promise.all([lost, farLost]);
    const requested = near.received;
    assert.equal(requested, 0);
    const [chunks, done] = [[] as Buffer[], once(near, 'end')];
    near.on('data', (chunk: Buffer) => chunks.push(chunk));
    while (chunks.reduce((sum, { length }) => sum + length, 0) < windowBytes) await turn();
    far.resume();
    const next = await openConnection();
    far.attach(inboundWebSocketCarrier(next.far, relayV1, next.farSocket), {
      peerReceived: requested,
      from: 0,
    });
    near.attach(webSocketCarrier(next.near, relayV1), { peerReceived: 0, from: requested });
    await done;
    assert.equal(hash(Buffer.concat(chunks)), hash(sent));
  });

  it('goes on when its peer acknowledges what has not been sent again yet', async () => {
    const { made: far, lost } = losing({ windowBytes: 2 * 1024 * 1024 });
    const line = await openConnection();
    far.attach(inboundWebSocketCarrier(line.far, relayV1, line.farSocket), { peerReceived: 0, from: 0 });
    let arrived = 0;
    line.near.on('message', (data: Buffer, isBinary) => {
      if (isBinary) arrived += data.length;
    });
    const sent = randomBytes(2 * 1024 * 1024);
    far.write(sent);
    while (arrived < sent.length) await once(line.near, 'message');
    line.farSocket.resetAndDestroy();
    await lost;
    // It requested 0, and reads the rest of what it has before the first byte is sent again.
    const next = await openConnection();
    next.near.pause();
    far.attach(inboundWebSocketCarrier(next.far, relayV1, next.farSocket), { peerReceived: 0, from: 0 });
    next.near.send('ack at=1500000');
    while (far.acknowledged !== 1_500_000) await turn();
    const chunks: Buffer[] = [];
    next.near.on('message', (data: Buffer, isBinary) => void (isBinary && chunks.push(data)));
    next.near.resume();
    while (chunks.reduce((sum, { length }) => sum + length, 0) < sent.length)
      await once(next.near, 'message');
    assert.equal(hash(Buffer.concat(chunks)), hash(sent));
    far.destroy();
  });

  it('sends small messages after a loss, until one was acknowledged', async () => {
    const { made: far, lost } = losing();
    const line = await openConnection();
    far.attach(inboundWebSocketCarrier(line.far, relayV1, line.farSocket), { peerReceived: 0, from: 0 });
    far.write(Buffer.alloc(60_000));
    const [first] = (await once(line.near, 'message')) as [Buffer];
    assert.equal(first.length, 60_000);
    line.farSocket.resetAndDestroy();
    await lost;
    const next = await openConnection();
    far.attach(inboundWebSocketCarrier(next.far, relayV1, next.farSocket), { peerReceived: 0, from: 0 });
    const sizes: number[] = [];
    next.near.on('message', (data: Buffer) => void sizes.push(data.length));
    while (sizes.length < 15) await once(next.near, 'message');
    assert.ok(Math.max(...sizes) <= 4096, sizes.join(' '));
    next.near.send('ack at=60000');
    while (far.acknowledged < 60_000) await turn();
    far.write(Buffer.alloc(50_000));
    while (sizes.length < 16) await once(next.near, 'message');
    assert.equal(sizes.at(-1), 50_000);
    far.destroy();
  });

  it('acknowledges what it has put in a request when the connection survives', async () => {
    const near = stream();
    const line = await openConnection();
    const sent = texts(line.far);
    near.attach(webSocketCarrier(line.near, relayV1), { peerReceived: 0, from: 0 });
    near.resume();
    line.far.send(Buffer.from('abc'));
    while (near.received < 3) await turn();
    assert.equal(await sent.until(/^ack /), 'ack at=3');
    near.destroy();
  });

  it('outlives a ping whose connection is lost before the answer was due', async () => {
    let silences = 0;
    const { made: near, lost } = losing({ onUnresponsive: () => silences++ });
    const far = stream();
    const line = await join(near, far);
    near.probe();
    line.farSocket.resetAndDestroy();
    await lost;
    await passed(1500);
    assert.equal(near.destroyed, false);
    assert.equal(silences, 0);
    near.destroy();
    far.destroy();
  });

  it('does not blame a new connection for the silence of the one before', async () => {
    let silences = 0;
    const { made: near, lost } = losing({ keepAliveMs: 100, onUnresponsive: () => silences++ });
    const line = await openConnection();
    near.attach(webSocketCarrier(line.near, relayV1), { peerReceived: 0, from: 0 });
    line.far.pause();
    near.probe();
    const next = await openConnection();
    // Answers each ping, so that it is not silent.
    next.far.on('message', (data: Buffer) => next.far.send(data.toString().replace('ping', 'pong')));
    near.attach(webSocketCarrier(next.near, relayV1), { peerReceived: 0, from: 0 });
    let how: CarrierEnd | undefined;
    void lost.then((end) => (how = end));
    await passed(1500);
    assert.equal(how, undefined);
    assert.equal(silences, 0);
    assert.equal(near.isAttached, true);
    near.destroy();
  });

  it('answers no more pings than its peer reads', async () => {
    const near = stream();
    const line = await openConnection();
    const carrier = webSocketCarrier(line.near, relayV1);
    near.attach(carrier, { peerReceived: 0, from: 0 });
    line.farSocket.pause();
    let most = 0;
    for (let round = 0; round < 200; round++) {
      for (let count = 0; count < 1000; count++) line.far.send('ping id=9007199254740991');
      await turn();
      most = Math.max(most, carrier.waitingBytes);
    }
    while (line.far.bufferedAmount > 0) await turn();
    assert.ok(most < 1024 * 1024, `${most} bytes wait`);
    near.destroy();
  });

  it('keeps small messages together: a window of single bytes is not a million buffers', async () => {
    const near = stream({ windowBytes: 1024 * 1024 });
    const line = await openConnection();
    near.attach(webSocketCarrier(line.near, relayV1), { peerReceived: 0, from: 0 });
    const byte = Buffer.from('x');
    // As an attacker does it: each byte in a read of its own, with much that means nothing.
    const nothing = `nothing a=${'x'.repeat(900)}`;
    const count = 150_000;
    for (let sent = 0; sent < count; sent++) {
      line.far.send(byte);
      if (sent % 100 !== 0) continue;
      for (let more = 0; more < 20; more++) line.far.send(nothing);
      await turn();
    }
    line.far.send('end at=150000');
    while (!near.hasEnded) await turn();
    const [stores, sizes] = [new Map<ArrayBufferLike, number>(), [] as number[]];
    near.on('data', (chunk: Buffer) => {
      stores.set(chunk.buffer, chunk.buffer.byteLength);
      sizes.push(chunk.length);
    });
    await once(near, 'end');
    const kept = [...stores.values()].reduce((sum, size) => sum + size, 0);
    assert.equal(
      sizes.reduce((sum, size) => sum + size, 0),
      count,
    );
    assert.ok(kept < 4 * count, `${kept} bytes for ${count}`);
    assert.ok(sizes.length < count / 20, `${sizes.length} pieces for ${count} bytes`);
    near.destroy();
  });

  for (const what of ['nothing', 'a write', 'the end'] as const)
    for (const state of ['detached', 'attached', 'detached again'] as const)
      for (const error of [undefined, new Error('broken off'), tunnelEnded('KILLED')])
        it(`destroyed while ${state} with ${what} to do, and ${error?.message ?? 'no error'}: closes`, async () => {
          const { made: near, lost } = losing();
          if (state !== 'detached') {
            const line = await openConnection();
            near.attach(webSocketCarrier(line.near, relayV1), { peerReceived: 0, from: 0 });
            line.far.pause();
            if (state === 'detached again') {
              line.farSocket.resetAndDestroy();
              await lost;
            }
          }
          let called = 0;
          if (what !== 'nothing') near.write(Buffer.alloc(2 * windowBytes), () => called++);
          if (what === 'the end') near.end(() => called++);
          near.destroy(error);
          await closed(near);
          assert.equal(near.unackedBytes, 0);
          assert.ok(called <= 2, 'no callback twice');
          near.dropCarrier();
          near.probe();
          near.requestReconnect();
          assert.equal(near.isAttached, false);
        });

  it('sends the close code of a violation, and is destroyed', async () => {
    for (const [message, code] of [
      ['ack at=1', 4005],
      ['end at=7', 4013],
      ['ack at=x', 4008],
      ['opened sid=a secret=b window=1 keep=1', 4008],
      [Buffer.alloc(0), 4013],
      [Buffer.alloc(65_536), 4013],
    ] as const) {
      const near = stream({ windowBytes: 1000 });
      const line = await openConnection();
      near.attach(webSocketCarrier(line.near, relayV1), { peerReceived: 0, from: 0 });
      line.far.send(message);
      const [[closeCode]] = await Promise.all([once(line.far, 'close') as Promise<[number]>, closed(near)]);
      assert.equal(closeCode, code, String(message).slice(0, 20));
    }
  });
});

describe('a stream for peers of relay v4', () => {
  it('takes what it has as taken when the peer comes back, read or not', async () => {
    const { made: near, lost } = losing({ isV4: true });
    const line = await openConnection();
    near.attach(webSocketCarrier(line.near, relayV4), { peerReceived: 0, from: 0 });
    line.far.send(relayV4.encode({ kind: 'data', bytes: Buffer.from('unread') })!);
    while (near.unreadBytes < 6) await turn();
    line.farSocket.resetAndDestroy();
    await lost;
    assert.equal(near.received, 6);
    near.destroy();
  });

  it('keeps the connection alive by what every client skips: no PING, no text, no ACK of 0, nothing empty', async () => {
    const near = stream({ isV4: true, keepAliveMs: 5 });
    const line = await openConnection();
    let pings = 0;
    line.far.on('ping', () => pings++);
    const received: string[] = [];
    line.far.on('message', (data: Buffer, isBinary) =>
      received.push(isBinary ? data.toString('hex') : 'text'),
    );
    near.attach(webSocketCarrier(line.near, relayV4), { peerReceived: 0, from: 0 });
    near.resume();
    near.write('');
    near.requestReconnect();
    line.far.send(relayV4.encode({ kind: 'data', bytes: Buffer.from('x') })!);
    while (received.length < 5 || !received.includes('00070000000000000001')) await once(line.far, 'message');
    assert.deepEqual([...new Set(received)].toSorted(), ['00070000000000000001', '00f0']);
    assert.equal(pings, 0);
    near.destroy();
  });

  it('ends with the Close of its peer: it cannot be resumed', async () => {
    const near = stream({ isV4: true });
    const line = await openConnection();
    near.attach(webSocketCarrier(line.near, relayV4), { peerReceived: 0, from: 0 });
    near.resume();
    line.far.close(1000);
    await once(near, 'end');
    assert.equal(near.canResume, false);
    near.end('nowhere');
    await closed(near);
  });
});

/** `once` would reject for the error that comes before. */
function closed(stream: RelayStream): Promise<void> {
  return new Promise((resolve) => stream.once('close', resolve));
}

/** The one thing here that is about time: that nothing happens. */
function passed(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
