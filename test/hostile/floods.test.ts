// SECURITY: peers that send without end or never read. The memory of the gateway does not grow, and neither does the
// latency of the tunnel of a neighbour.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { capsuleHead } from '../../protocol/capsule.ts';
import { encodeVarint } from '../../protocol/varint.ts';
import { startGateway } from '../e2e/support/gateway.ts';
import type { Gateway } from '../e2e/support/gateway.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { listen } from '../e2e/support/world.ts';
import { exchange, statusOf } from '../server/support/gateway-parts.ts';
import {
  connectTcpPeer,
  rawUpgrade,
  relayHead,
  upgradeHead,
  webSocketFields,
} from '../server/support/peers.ts';
import { patient } from '../support/slowness.ts';

const scratch = openScratch();
const mebibyte = 1024 * 1024;
const floodMs = process.env.POSTERN_LONG ? 30_000 : 500;
/** For one flood, noise of the garbage collector included; the naive ways grew by 900 MiB and more in 4 s. */
const maxGrowthBytes = 96 * mebibyte;

/** A frame as a client sends it, masked with zeros. */
function frame(first: number, bytes: Buffer): Buffer {
  const length =
    bytes.length < 126 ? [0x80 | bytes.length] : [0x80 | 126, bytes.length >> 8, bytes.length & 0xff];
  return Buffer.concat([Buffer.from([first, ...length, 0, 0, 0, 0]), bytes]);
}

function repeat(bytes: Buffer, times: number): Buffer {
  return Buffer.concat(Array.from({ length: times }, () => bytes));
}

const binary = 0x82;
const ping = repeat(frame(0x89, Buffer.alloc(125)), 500);
const oneByteFragments = Buffer.concat([
  frame(0x02, Buffer.alloc(1)),
  repeat(frame(0x00, Buffer.alloc(1)), 10_000),
]);
const emptyFragments = Buffer.concat([
  frame(0x02, Buffer.alloc(1)),
  repeat(frame(0x00, Buffer.alloc(0)), 10_000),
]);
const relayPings = repeat(frame(0x81, Buffer.from('ping id=1')), 5000);
const relayNonsense = repeat(frame(0x81, Buffer.from('hello how=you')), 5000);
const megabyte = Buffer.alloc(mebibyte);
// 8 bytes of ones, with the two bits that say so: 2^62 - 1.
const longest = Buffer.alloc(8, 0xff);

/** What a client writes: first, then again and again; and whether the gateway has to close for it. */
interface Flood {
  readonly entry: 'relay' | 'websocket' | 'connect-tcp';
  readonly first: Buffer;
  readonly next: Buffer;
  readonly isClosed: boolean;
}

const floods: Readonly<Record<string, Flood>> = {
  'pings whose answers it does not read': { entry: 'websocket', first: ping, next: ping, isClosed: false },
  'fragments of one byte': {
    entry: 'websocket',
    first: oneByteFragments,
    next: oneByteFragments.subarray(7),
    isClosed: true,
  },
  'empty fragments': {
    entry: 'websocket',
    first: emptyFragments,
    next: emptyFragments.subarray(7),
    isClosed: true,
  },
  'a text message': {
    entry: 'websocket',
    first: frame(0x81, Buffer.from('a')),
    next: frame(0x81, Buffer.from('a')),
    isClosed: true,
  },
  'a message of 64 KiB and one byte': {
    entry: 'websocket',
    first: Buffer.concat([Buffer.from([binary, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0])]),
    next: megabyte,
    isClosed: true,
  },
  'a message of 2^53 bytes': {
    entry: 'websocket',
    first: Buffer.from([binary, 0x80 | 127, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    next: megabyte,
    isClosed: true,
  },
  'a frame that is not masked': {
    entry: 'websocket',
    first: Buffer.from([binary, 1, 0]),
    next: Buffer.from([binary, 1, 0]),
    isClosed: true,
  },
  'data after its end': {
    entry: 'websocket',
    first: frame(binary, Buffer.alloc(0)),
    next: frame(binary, Buffer.alloc(9)),
    isClosed: true,
  },
  'relay pings whose answers it does not read': {
    entry: 'relay',
    first: relayPings,
    next: relayPings,
    isClosed: false,
  },
  'unknown messages of a relay': {
    entry: 'relay',
    first: relayNonsense,
    next: relayNonsense,
    isClosed: false,
  },
  'a relay message without a form': {
    entry: 'relay',
    first: frame(0x81, Buffer.from('Ack At=1')),
    next: relayNonsense,
    isClosed: true,
  },
  'relay acknowledgements of what was never sent': {
    entry: 'relay',
    first: frame(0x81, Buffer.from('ack at=9007199254740991')),
    next: relayNonsense,
    isClosed: true,
  },
  'relay data after its end': {
    entry: 'relay',
    first: frame(0x81, Buffer.from('end at=0')),
    next: frame(binary, Buffer.alloc(9)),
    isClosed: true,
  },
  'a capsule of 2^62 - 1 bytes of data': {
    entry: 'connect-tcp',
    first: Buffer.concat([encodeVarint(0x2028d7f2), longest]),
    next: megabyte,
    isClosed: false,
  },
  'an unknown capsule of 2^62 - 1 bytes': {
    entry: 'connect-tcp',
    first: Buffer.concat([encodeVarint(0x29 * 77 + 0x17), longest]),
    next: megabyte,
    isClosed: false,
  },
  'an unknown capsule of 1 GiB': {
    entry: 'connect-tcp',
    first: capsuleHead(0x29 * 77 + 0x17, 1024 * mebibyte),
    next: megabyte,
    isClosed: false,
  },
  'empty capsules': {
    entry: 'connect-tcp',
    first: repeat(capsuleHead(0x2028d7f2, 0), 10_000),
    next: repeat(capsuleHead(0x17, 0), 10_000),
    isClosed: false,
  },
  'data capsules after its end': {
    entry: 'connect-tcp',
    first: capsuleHead(0x2028d7f3, 0),
    next: Buffer.concat([capsuleHead(0x2028d7f2, 1), Buffer.alloc(1)]),
    isClosed: true,
  },
};

/** Writes as fast as the other side takes it. */
function pour(socket: Socket, bytes: Buffer): void {
  const more = (): void => {
    while (!socket.destroyed && socket.writable && socket.write(bytes));
  };
  socket.on('drain', more);
  more();
}

describe('a flood', { skip: existsSync('/proc/self/status') ? false : 'no /proc' }, () => {
  let gateway: Gateway;
  let authorization: string;
  let neighbour: Duplex;
  before(async () => {
    const echo = await listen(scratch, (socket) => void socket.pipe(socket));
    const sink = await listen(scratch, (socket) => void socket.resume());
    const source = await listen(scratch, (socket) => {
      socket.resume();
      pour(socket, megabyte);
    });
    gateway = await startGateway(scratch, {
      targets: { echo: `127.0.0.1:${echo}`, sink: `127.0.0.1:${sink}`, source: `127.0.0.1:${source}` },
    });
    const token = readFileSync(gateway.tokenFile, 'utf8').trim();
    authorization = `Authorization: Bearer ${token}\r\n`;
    neighbour = await connectTcpPeer.open(gateway.port, 'echo:22', token);
  });

  function open(entry: Flood['entry'] | 'connect', target: string): Promise<Socket> {
    const path = `/ssh/tcp/${target}/22/`;
    if (entry === 'connect')
      return rawUpgrade(gateway.port, `CONNECT ${target}:22 HTTP/1.1\r\nHost: a\r\n${authorization}\r\n`);
    if (entry === 'relay') return rawUpgrade(gateway.port, relayHead(`${target}:22`, authorization));
    const eof = 'Sec-WebSocket-Protocol: postern.tcp.v1\r\n';
    const more = entry === 'websocket' ? webSocketFields + eof : '';
    return rawUpgrade(gateway.port, upgradeHead(path, entry, more + authorization));
  }

  function residentBytes(): number {
    const status = readFileSync(`/proc/${gateway.running.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
  }

  /** The longest that the neighbour waited for its echo, in ms, over `times` echoes. */
  async function neighbourWaits(times: number): Promise<number> {
    let longestMs = 0;
    for (let at = 0; at < times; at++) {
      const began = performance.now();
      neighbour.write(`${at}`.padEnd(8));
      await once(neighbour, 'data');
      longestMs = Math.max(longestMs, performance.now() - began);
      await delay(20);
    }
    return longestMs;
  }

  /** Runs it for a while, and checks memory and neighbour all the time. */
  async function check(run: () => Promise<void> | void): Promise<void> {
    await neighbourWaits(3);
    const before = residentBytes();
    let most = before;
    const watch = setInterval(() => (most = Math.max(most, residentBytes())), 25);
    let waited = 0;
    try {
      await run();
      const ends = performance.now() + floodMs;
      while (performance.now() < ends) waited = Math.max(waited, await neighbourWaits(5));
    } finally {
      clearInterval(watch);
    }
    const grownBytes = most - before;
    assert.ok(grownBytes < maxGrowthBytes, `${Math.round(grownBytes / mebibyte)} MiB more`);
    assert.ok(waited < patient(1000), `the neighbour waited ${waited} ms`);
  }

  for (const entry of ['relay', 'websocket', 'connect-tcp', 'connect'] as const) {
    const clientCount = entry === 'websocket' ? 50 : 15;
    it(`of targets, to ${clientCount} clients that never read, by ${entry}`, async () => {
      const clients: Socket[] = [];
      await check(async () => {
        for (let at = 0; at < clientCount; at++) {
          const client = await open(entry, 'source');
          clients.push(client.on('error', () => {}).pause());
        }
      });
      for (const client of clients) client.destroy();
    });
  }

  for (const [what, { entry, first, next, isClosed }] of Object.entries(floods)) {
    it(`of a client: ${what}`, async () => {
      const client = await open(entry, 'sink');
      client.on('error', () => {}).pause();
      const closed = new Promise<boolean>((resolve) => client.once('close', () => resolve(true)));
      await check(() => {
        client.write(first);
        pour(client, next);
      });
      if (isClosed) {
        client.resume();
        assert.equal(await Promise.race([closed, delay(patient(3000), false, { ref: false })]), true);
      }
      client.destroy();
    });
  }

  for (const [what, request] of [
    [
      'one header of 17 KiB',
      upgradeHead('/ssh/tcp/sink/22/', 'connect-tcp', `X: ${'a'.repeat(17 * 1024)}\r\n`),
    ],
    ['a URL of 17 KiB', `GET /ssh/${'a'.repeat(17 * 1024)} HTTP/1.1\r\nHost: a\r\n\r\n`],
    ['101 headers', upgradeHead('/ssh/tcp/sink/22/', 'connect-tcp', 'X: a\r\n'.repeat(101))],
  ] as const) {
    it(`of an unauthenticated client is refused: ${what}`, async () => {
      assert.ok([400, 431].includes(statusOf(await exchange(gateway.port, request))));
    });
  }

  it('of a header without an end is cut off', async () => {
    const answer = exchange(gateway.port, Buffer.concat([Buffer.from('GET / HTTP/1.1\r\nX: '), megabyte]));
    assert.ok([400, 431].includes(statusOf(await answer.catch(() => 'HTTP/1.1 431 '))));
  });

  it('leaves a gateway that serves on', async () => {
    assert.ok((await neighbourWaits(5)) < patient(1000));
    neighbour.destroy();
    assert.doesNotMatch(gateway.running.log(), /nobody caught/);
  });
});
