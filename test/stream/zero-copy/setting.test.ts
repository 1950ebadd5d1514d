import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, Socket } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';
import { capsuleCodes } from '../../../protocol/capsule.ts';
import { relayV1 } from '../../../protocol/relay-v1.ts';
import { bridge } from '../../../stream/bridge.ts';
import type { BridgeEnd } from '../../../stream/bridge.ts';
import { capsuleStream } from '../../../stream/capsule-stream.ts';
import { RelayStream } from '../../../stream/relay-stream.ts';
import { webSocketCarrier } from '../../../stream/websocket-carrier.ts';
import { webSocketStream } from '../../../stream/websocket-stream.ts';
import { inboundWebSocketCarrier } from '../../../stream/zero-copy/inbound-websocket-carrier.ts';
import { readPooled } from '../../../stream/zero-copy/direct-reads.ts';
import { PooledSocket } from '../../../stream/zero-copy/pooled-socket.ts';
import { configureZeroCopy } from '../../../stream/zero-copy/setting.ts';

const mebibyte = 1024 * 1024;
/** More than the buffers of the kernel, the streams and the relay's window hold together. */
const floodBytes = 64 * mebibyte;
const chunk = Buffer.alloc(64 * 1024, 'x');
/** A sender has stalled when nothing was taken for this long. */
const stallMs = 200;

/** The two ends of a tunnel, with a gateway's bridge between them. */
interface Tunnel {
  readonly client: Duplex;
  readonly target: Socket;
  readonly ended: Promise<BridgeEnd>;
}

/** Makes the stream at the client's end, from a connection or a WebSocket to the gateway, and that at the gateway's. */
interface Entry {
  readonly byWebSocket: boolean;
  client(connection: Socket, webSocket: WebSocket | undefined): Duplex;
  inbound(connection: Socket, webSocket: WebSocket | undefined): Duplex;
}

const codes = capsuleCodes('connect-tcp')!;
const windowBytes = mebibyte;

const entries: Readonly<Record<string, Entry>> = {
  connect: { byWebSocket: false, client: (connection) => connection, inbound: (connection) => connection },
  'connect-tcp': {
    byWebSocket: false,
    client: (connection) => capsuleStream(connection, codes),
    inbound: (connection) => capsuleStream(connection, codes),
  },
  websocket: {
    byWebSocket: true,
    client: (_, webSocket) => webSocketStream(webSocket!, { eof: 'message' }),
    inbound: (connection, webSocket) => webSocketStream(webSocket!, { eof: 'message', connection }),
  },
  relay: {
    byWebSocket: true,
    client(connection, webSocket) {
      const stream = new RelayStream({ isV4: false, windowBytes });
      const carrier = webSocketCarrier(webSocket!, relayV1, { connection });
      stream.attach(carrier, { peerReceived: 0, from: 0 });
      return stream;
    },
    inbound(connection, webSocket) {
      const stream = new RelayStream({ isV4: false, windowBytes });
      const carrier = inboundWebSocketCarrier(webSocket!, relayV1, connection);
      stream.attach(carrier, { peerReceived: 0, from: 0 });
      return stream;
    },
  },
};

const gateway = createHttpServer();
const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
const target = createServer({ allowHalfOpen: true });
before(() => Promise.all([gateway, target].map((server) => listening(server))));
after(() => {
  gateway.close();
  gateway.closeAllConnections();
  target.close();
});
afterEach(() => configureZeroCopy(undefined));

async function listening(server: Server): Promise<void> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

async function openTunnel(entry: Entry): Promise<Tunnel> {
  const accepted = once(target, 'connection') as Promise<[Socket]>;
  const ended = Promise.withResolvers<BridgeEnd>();
  const serve = (inbound: Duplex): void => {
    const dialled = new PooledSocket({ port: portOf(target), host: '127.0.0.1', allowHalfOpen: true });
    dialled.on('error', () => {});
    ended.resolve(bridge(inbound, dialled, new AbortController().signal));
  };
  gateway.removeAllListeners('connect').removeAllListeners('upgrade');
  gateway.once('connect', (_, connection: Socket) => {
    connection.write('HTTP/1.1 200 OK\r\n\r\n');
    serve(entry.inbound(connection, undefined));
  });
  gateway.once('upgrade', (request, connection: Socket, head) =>
    webSockets.handleUpgrade(request, connection, head, (webSocket: WebSocket) =>
      serve(entry.inbound(connection, webSocket)),
    ),
  );
  const client = entry.byWebSocket ? await byWebSocket(entry) : await byConnect(entry);
  client.on('error', () => {});
  const [socket] = await accepted;
  socket.on('error', () => {});
  return { client, target: socket, ended: ended.promise };
}

async function byConnect(entry: Entry): Promise<Duplex> {
  const connection = connect({ port: portOf(gateway), host: '127.0.0.1', allowHalfOpen: true });
  connection.write('CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(connection, 'readable');
  assert.match(String(connection.read()), /^HTTP\/1.1 200 OK\r\n\r\n$/);
  return entry.client(connection, undefined);
}

async function byWebSocket(entry: Entry): Promise<Duplex> {
  const webSocket = new WebSocket(`ws://127.0.0.1:${portOf(gateway)}`, { perMessageDeflate: false });
  let connection = new Socket();
  webSocket.once('upgrade', ({ socket }) => (connection = socket));
  return new Promise((resolve, reject) => {
    webSocket.once('error', reject);
    webSocket.once('open', () => resolve(entry.client(connection, webSocket)));
  });
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** A hash of what comes until the EOF. */
async function hashOf(stream: Duplex): Promise<string> {
  const hash = createHash('sha256');
  stream.on('data', (bytes: Buffer) => hash.update(bytes));
  await once(stream, 'end');
  return hash.digest('hex');
}

/** In pieces of many sizes, small ones too. */
async function sendPieces(stream: Duplex, bytes: Buffer): Promise<void> {
  for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7) % 70_001)
    if (!stream.write(bytes.subarray(at, at + size))) await once(stream, 'drain');
  stream.end();
}

/** Both directions carry the same bytes; the one back begins after the EOF of the other. */
async function halfClose(
  entry: Entry,
  sent: { readonly up: Buffer; readonly down: Buffer },
): Promise<object> {
  const { client, target: far, ended } = await openTunnel(entry);
  const back = hashOf(client);
  const [arrived] = await Promise.all([hashOf(far), sendPieces(client, sent.up)]);
  await sendPieces(far, sent.down);
  const returned = await back;
  const how = await ended;
  return { arrived, returned, how };
}

/** The error code at the other end, and how the bridge has ended. */
async function reset(entry: Entry, by: 'client' | 'target'): Promise<object> {
  const { client, target: far, ended } = await openTunnel(entry);
  client.write('x');
  await once(far, 'data');
  const other = by === 'client' ? far : client;
  other.resume();
  const failed = once(other, 'error') as Promise<[NodeJS.ErrnoException]>;
  if (by === 'target') far.resetAndDestroy();
  else if (client instanceof Socket) client.resetAndDestroy();
  else client.destroy(new Error('aborted'));
  const [{ code }] = await failed;
  return { code, how: await ended };
}

/** A sender stalls while nothing is read at the other end, and everything arrives when it is. */
async function backPressure(entry: Entry, direction: 'up' | 'down'): Promise<object> {
  const { client, target: far, ended } = await openTunnel(entry);
  const [from, to]: Duplex[] = direction === 'up' ? [client, far] : [far, client];
  let written = 0;
  const pour = async (): Promise<void> => {
    for (; written < floodBytes; written += chunk.length) if (!from!.write(chunk)) await once(from!, 'drain');
    from!.end();
  };
  const poured = pour();
  for (let before = -1; before < written;) {
    before = written;
    await delay(stallMs);
  }
  const hasStalled = written < floodBytes;
  let arrived = 0;
  to!.on('data', (bytes: Buffer) => (arrived += bytes.length));
  await Promise.all([once(to!, 'end'), poured]);
  from!.resume();
  to!.end();
  return { hasStalled, arrived, how: await ended };
}

describe('POSTERN_ZERO_COPY', () => {
  it('decides whether an inbound connection is read by the internals of Node.js', async () => {
    for (const value of ['0', 'false', undefined, '1']) {
      configureZeroCopy(value);
      const accepted = once(target, 'connection') as Promise<[Socket]>;
      const near = connect(portOf(target), '127.0.0.1');
      const [far] = await accepted;
      assert.equal(
        readPooled(far, () => true),
        value === undefined || value === '1',
      );
      near.destroy();
      far.destroy();
    }
  });

  for (const [name, entry] of Object.entries(entries)) {
    it(`changes nothing about what a tunnel by ${name} does`, async () => {
      const sent = { up: randomBytes(3 * mebibyte), down: randomBytes(3 * mebibyte) };
      const observe = async (value: string): Promise<object> => {
        configureZeroCopy(value);
        return {
          halfClose: await halfClose(entry, sent),
          resetByClient: await reset(entry, 'client'),
          resetByTarget: await reset(entry, 'target'),
          up: await backPressure(entry, 'up'),
          down: await backPressure(entry, 'down'),
        };
      };
      const [withInternals, without] = [await observe('1'), await observe('0')];
      assert.deepEqual(without, withInternals);
      assert.deepEqual(withInternals, {
        halfClose: { arrived: sha256(sent.up), returned: sha256(sent.down), how: 'CLOSED' },
        resetByClient: { code: 'ECONNRESET', how: 'CLIENT_LOST' },
        resetByTarget: { code: 'ECONNRESET', how: 'TARGET_LOST' },
        up: { hasStalled: true, arrived: floodBytes, how: 'CLOSED' },
        down: { hasStalled: true, arrived: floodBytes, how: 'CLOSED' },
      });
    });
  }
});
