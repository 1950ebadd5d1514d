// SECURITY: clients that are gone and targets that never close. A tunnel that can carry nothing more does not go on
// counting against the limits.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { WebSocket, WebSocketServer } from 'ws';
import { CapsuleDecoder, capsuleCodes } from '../../protocol/capsule.ts';
import { webSocketStream } from '../../stream/websocket-stream.ts';
import type { WebSocketStreamOptions } from '../../stream/websocket-stream.ts';
import {
  dial,
  generousLimits,
  oneToken,
  startParts,
  startTarget,
  tokenAuthenticator,
} from '../server/support/gateway-parts.ts';
import type { Parts } from '../server/support/gateway-parts.ts';
import {
  collect,
  connectTcpPeer,
  outcome,
  rawUpgrade,
  relayHead,
  upgradeHead,
  webSocketFields,
} from '../server/support/peers.ts';

const good = 'Authorization: Bearer good\r\n';
const eofMessage = 'Sec-WebSocket-Protocol: postern.tcp.v1\r\n';

/** A frame as a client sends it, masked with zeros. */
function frame(opcode: number, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | bytes.length, 0, 0, 0, 0]), bytes]);
}

const eof = frame(2, Buffer.alloc(0));
const close1000 = frame(8, Buffer.from([3, 232]));
const relayEnd = frame(1, Buffer.from('end at=0'));
const relayAborted = frame(8, Buffer.from([0x11, 0x3a]));
const finalData = Buffer.from('a028d7f300', 'hex');

const heads: Record<string, (port: number) => string> = {
  relay: (port) => relayHead(`localhost:${port}`, good),
  websocket: (port) =>
    upgradeHead(`/ssh/tcp/localhost/${port}/`, 'websocket', webSocketFields + eofMessage + good),
  'connect-tcp': (port) => upgradeHead(`/ssh/tcp/localhost/${port}/`, 'connect-tcp', good),
  connect: (port) => `CONNECT localhost:${port} HTTP/1.1\r\nHost: a\r\n${good}\r\n`,
};

/** What a client says last, in which words, before it is gone. */
const lastWords: readonly (readonly [entry: string, words: readonly Buffer[], how: 'end' | 'reset'])[] = [
  ['relay', [], 'end'],
  ['relay', [], 'reset'],
  ['relay', [relayEnd], 'reset'],
  ['relay', [relayAborted], 'end'],
  ['websocket', [], 'end'],
  ['websocket', [], 'reset'],
  ['websocket', [eof], 'end'],
  ['websocket', [eof], 'reset'],
  ['websocket', [eof, close1000], 'end'],
  ['websocket', [close1000], 'end'],
  ['connect-tcp', [], 'end'],
  ['connect-tcp', [], 'reset'],
  ['connect-tcp', [finalData], 'reset'],
  ['connect', [], 'reset'],
];

/** How long a tunnel by relay waits for its client; the others do not. */
const keepMs = 50;

/** Targets that do not close when their peer has. */
const targets: Record<string, (socket: Socket) => void> = {
  'reads and never closes': (socket) => void socket.resume(),
  'never reads': (socket) => void socket.pause(),
};

describe('a client that is gone', () => {
  let gateway: Parts;
  before(async () => (gateway = await startParts({ relays: { keepMs } })));
  after(() => gateway.close());

  for (const [what, onSocket] of Object.entries(targets)) {
    for (const [entry, words, how] of lastWords) {
      it(`by ${how} after ${words.length} last words in ${entry} ends its tunnel to a target that ${what}`, async () => {
        const target = await startTarget(onSocket);
        const socket = await rawUpgrade(gateway.port, heads[entry]!(target.port));
        socket.on('error', () => {});
        for (const word of words) {
          socket.write(word);
          await delay(20);
        }
        if (how === 'end') socket.destroy();
        else socket.resetAndDestroy();
        await gateway.sessions.empty();
        assert.equal(gateway.ended.at(-1)?.end, 'CLIENT_LOST');
        target.close();
      });
    }
  }

  for (const [entry, head] of Object.entries(heads)) {
    for (const thinkMs of [0, 30]) {
      it(`by FIN ${thinkMs} ms before the answer ends its tunnel by ${entry}, or never has one`, async () => {
        // Reads, and closes after its peer, as every SSH server does.
        const target = await startTarget((socket) => socket.resume().on('end', () => socket.end()));
        const thinking = await startParts({
          authenticator: tokenAuthenticator(async (credentials, context) => {
            await delay(thinkMs);
            return oneToken.authenticate(credentials, context);
          }),
        });
        const socket = await dial(thinking.port);
        socket.on('error', () => {});
        socket.resume();
        socket.end(head(target.port));
        await thinking.endedCount(1);
        assert.equal(thinking.sessions.count, 0);
        await thinking.close();
        target.close();
      });
    }
  }

  it('gives back every count, whatever it did', async () => {
    const target = await startTarget((socket) => void socket.resume());
    const strict = await startParts({
      relays: { keepMs },
      limits: { ...generousLimits, tunnels: 1, perAddress: 1, perSubject: 1 },
    });
    for (const [entry, words, how] of lastWords) {
      const socket = await rawUpgrade(strict.port, heads[entry]!(target.port));
      socket.on('error', () => {});
      for (const word of words) socket.write(word);
      if (how === 'end') socket.destroy();
      else socket.resetAndDestroy();
      await strict.sessions.empty();
      // `leave` comes after the end of the record, in the same turn of the loop.
      await setImmediate();
    }
    (await connectTcpPeer.open(strict.port, `localhost:${target.port}`)).destroy();
    await strict.close();
    target.close();
  });
});

describe('a stream over a WebSocket', () => {
  let server: WebSocketServer;
  before(async () => {
    server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    await once(server, 'listening');
  });
  after(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });

  async function pair(options: WebSocketStreamOptions): Promise<[Duplex, WebSocket]> {
    const accepted = new Promise<Duplex>((resolve) => {
      server.once('connection', (socket) => resolve(webSocketStream(socket, options)));
    });
    const peer = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    peer.on('error', () => {});
    await once(peer, 'open');
    return [await accepted, peer];
  }

  it('whose peer has ended by Close is over a while after that end was read', async () => {
    const [stream, peer] = await pair({ eof: 'close', lingerMs: 30 });
    peer.send(Buffer.from('ab'));
    peer.close(1000);
    const bytes = await collect(stream);
    assert.equal(bytes.toString(), 'ab');
    assert.equal(await outcome(stream), 'ECONNRESET');
  });

  it('that is not read still finds out that its peer is gone', async () => {
    const [stream, peer] = await pair({ eof: 'message', keepAliveMs: 20 });
    const failed = once(stream, 'error') as Promise<[NodeJS.ErrnoException]>;
    for (let sent = 0; sent < 100; sent++) peer.send(Buffer.alloc(60_000));
    await delay(50);
    (peer as unknown as { _socket: Socket })._socket.resetAndDestroy();
    assert.match((await failed)[0].code!, /^(ECONNRESET|EPIPE)$/);
  });

  it('whose peer stops reading for a while, as a stopped process does, is not declared dead', async () => {
    const [stream, peer] = await pair({ eof: 'message', keepAliveMs: 50 });
    peer.pause();
    const bytes = Buffer.alloc(32 * 1024 * 1024);
    stream.end(bytes);
    await delay(300);
    assert.equal(stream.destroyed, false);
    let seen = 0;
    peer.on('message', (data: Buffer) => (seen += data.length));
    peer.resume();
    stream.resume();
    while (seen < bytes.length) await once(peer, 'message');
    stream.destroy();
  });
});

describe('a client that reads slowly, and beats after its own end,', () => {
  /** The bytes of the tunnel in what came, and whether its end came too. */
  const contents: Record<string, (received: Buffer) => { bytes: number; ended: boolean }> = {
    'connect-tcp'(received) {
      const events = [...new CapsuleDecoder(capsuleCodes('connect-tcp')!).push(received)];
      const bytes = events.reduce((sum, event) => sum + (event.kind === 'data' ? event.bytes.length : 0), 0);
      return { bytes, ended: events.at(-1)?.kind === 'end' };
    },
    websocket(received) {
      const lengths: number[] = [];
      for (let at = 0; at + 2 <= received.length;) {
        const short = received[at + 1]!;
        const [head, length] =
          short < 126
            ? [2, short]
            : short === 126
              ? [4, received.readUInt16BE(at + 2)]
              : [10, received.readUInt32BE(at + 6)];
        if (received[at] === 0x82) lengths.push(length);
        at += head + length;
      }
      return { bytes: lengths.reduce((sum, length) => sum + length, 0), ended: lengths.at(-1) === 0 };
    },
  };
  const last: Record<string, Buffer> = { 'connect-tcp': finalData, websocket: eof };
  const beat: Record<string, Buffer> = {
    'connect-tcp': Buffer.from('1700', 'hex'),
    websocket: frame(10, Buffer.alloc(0)),
  };

  for (const [entry, read] of Object.entries(contents)) {
    it(`still gets every byte by ${entry}`, async () => {
      const sent = 2_000_000;
      const target = await startTarget((socket) => {
        socket.resume();
        socket.end(Buffer.alloc(sent, 7));
      });
      const gateway = await startParts();
      const socket = await rawUpgrade(gateway.port, heads[entry]!(target.port));
      socket.on('error', () => {});
      socket.write(last[entry]!);
      await gateway.endedCount(1);
      // Longer than a gateway that has sent everything would wait if it waited for only a second.
      await delay(1500);
      socket.write(beat[entry]!);
      await delay(100);
      const chunks: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        if (chunk.subarray(-4).equals(Buffer.from('880203e8', 'hex'))) socket.end();
      });
      await Promise.race([once(socket, 'end'), once(socket, 'close')]);
      socket.destroy();
      await gateway.close();
      target.close();
      assert.deepEqual(read(Buffer.concat(chunks)), { bytes: sent, ended: true });
    });
  }
});
