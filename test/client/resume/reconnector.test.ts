import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import type { ClientEntry } from '../../../client/entry/entry.ts';
import { http, relay } from '../../../client/entry/resumable.ts';
import { transitions } from '../../../client/resume/reconnector.ts';
import type { ReconnectState } from '../../../client/resume/reconnector.ts';
import { Secret } from '../../../protocol/secret.ts';
import { startParts } from '../../server/support/gateway-parts.ts';
import type { Parts } from '../../server/support/gateway-parts.ts';
import { eventually } from '../../e2e/support/process.ts';
import { startFaultProxy } from '../../support/fault-proxy.ts';
import type { Fault, FaultProxy } from '../../support/fault-proxy.ts';

/** Who owes an answer is asked, and given up, within this time. */
const longestSilenceMs = 2000;

const walk = (...events: string[]): string =>
  events.reduce<string>((state, event) => {
    const row: Partial<Record<string, ReconnectState>> = transitions[state as ReconnectState];
    return row[event] ?? state;
  }, 'connected');

describe('the states of a tunnel', () => {
  for (const [events, state] of [
    [[], 'connected'],
    [['resumed'], 'connected'],
    [['unresponsive'], 'suspect'],
    [['unresponsive', 'recovered'], 'connected'],
    [['unresponsive', 'resumed'], 'connected'],
    [['unresponsive', 'lost'], 'reconnecting'],
    [['lost'], 'reconnecting'],
    [['lost', 'lost', 'resumed'], 'connected'],
    [['lost', 'closed', 'resumed'], 'ended'],
  ] as const) {
    it(`are ${state} after ${events.join(', ') || 'the start'}`, () => {
      assert.equal(walk(...events), state);
    });
  }
});

for (const entry of [relay, http]) describe(`a resumable tunnel by ${entry.name}`, () => testTunnel(entry));

function testTunnel(entry: ClientEntry): void {
  let parts: Parts;
  let proxy: FaultProxy;
  let echo: Server;
  const tunnels: Duplex[] = [];
  let isRevoked = false;

  before(async () => {
    parts = await startParts({ revocations: { isRevoked: () => isRevoked } });
    proxy = await startFaultProxy(parts.port);
    echo = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => {});
      socket.pipe(socket);
    }).listen(0, '127.0.0.1');
    await once(echo, 'listening');
  });
  after(async () => {
    // One whose last word has not been answered would go on asking for it.
    for (const tunnel of tunnels) tunnel.destroy();
    proxy.close();
    echo.close();
    await parts.close();
  });

  async function open(target: Server = echo): Promise<Duplex> {
    const { port } = target.address() as AddressInfo;
    const request = {
      gateway: new URL(`http://127.0.0.1:${proxy.port}/ssh/`),
      target: { host: '127.0.0.1', port },
      token: new Secret('good'),
    };
    const tunnel = await entry.open({ ...request, isPinned: true }, direct, AbortSignal.timeout(10_000));
    tunnels.push(tunnel);
    return tunnel;
  }

  it('carries bytes both ways, and each EOF by itself', async () => {
    const tunnel = await open();
    tunnel.end('hello');
    assert.equal((await buffer(tunnel)).toString(), 'hello');
  });

  for (const fault of ['reset', 'end'] as const satisfies readonly Fault[]) {
    it(`loses and repeats nothing when the connection is cut again and again (${fault})`, async () => {
      const sent = randomBytes(8 * 1024 * 1024);
      const from = proxy.count;
      proxy.cutAfter(2_000_000, fault);
      const tunnel = await open();
      tunnel.end(sent);
      const received = await buffer(tunnel);
      proxy.cutAfter(Infinity, fault);
      assert.equal(hash(received), hash(sent));
      assert.ok(proxy.count - from >= 3, `${proxy.count - from} connections`);
    });
  }

  it('loses and repeats nothing when it moves again and again with its hands full', async () => {
    const sent = randomBytes(32 * 1024 * 1024);
    const from = parts.ended.length;
    const tunnel = await open();
    // In pieces, so that there is always one that waits to be written.
    Readable.from(inPieces(sent, 16 * 1024)).pipe(tunnel);
    const received: Buffer[] = [];
    let sinceMove = 0;
    tunnel.on('data', (chunk: Buffer) => {
      received.push(chunk);
      sinceMove += chunk.length;
      if (sinceMove < 1_000_000) return;
      sinceMove = 0;
      parts.relays.requestReconnect();
    });
    await once(tunnel, 'end');
    assert.equal(hash(Buffer.concat(received)), hash(sent));
    const moves = parts.ended.slice(from).filter(({ end }) => end === 'RESUMED').length;
    assert.ok(moves >= 3, `${moves} moves`);
  });

  it('waits through a time without a gateway', async () => {
    const tunnel = await open();
    tunnel.write('before ');
    await once(tunnel, 'readable');
    proxy.isUp = false;
    proxy.cut('reset');
    tunnel.end('after');
    setTimeout(() => (proxy.isUp = true), 1500);
    assert.equal((await buffer(tunnel)).toString(), 'before after');
  });

  it('goes on where it is when the gateway asks it to move, and then does not let it', async () => {
    const tunnel = await open();
    isRevoked = true;
    parts.relays.requestReconnect();
    await parts.endedCount(parts.ended.length + 1);
    assert.equal(parts.ended.at(-1)?.end, 'TOKEN_INVALID');
    isRevoked = false;
    tunnel.end('still here');
    assert.equal((await buffer(tunnel)).toString(), 'still here');
  });

  it('asks for nothing any more when it was destroyed', async () => {
    const [offers, many] = [parts.ended.length, await Promise.all(Array.from({ length: 8 }, () => open()))];
    for (const tunnel of many) {
      tunnel.write('hello');
      await once(tunnel, 'data');
      tunnel.destroy();
    }
    await eventually(() => parts.sessions.count === 0, 'the end of all of them');
    await new Promise((resolve) => setTimeout(resolve, longestSilenceMs));
    const needless = parts.ended.slice(offers).filter(({ end }) => end === 'TUNNEL_GONE');
    assert.equal(needless.length, 0);
  });

  it('leaves nothing behind when it ends while it moves', async () => {
    const many = await Promise.all(Array.from({ length: 60 }, () => open()));
    parts.relays.requestReconnect();
    for (const [at, tunnel] of many.entries()) setTimeout(() => tunnel.end('bye'), at % 20);
    for (const tunnel of many) assert.equal((await buffer(tunnel)).toString(), 'bye');
    await eventually(() => parts.sessions.count === 0, 'the end of all of them');
  });

  it('keeps half-close: an EOF of the target leaves the other way open through a cut', async () => {
    const heard = Promise.withResolvers<Buffer>();
    const target = createServer({ allowHalfOpen: true }, (socket: Socket) => {
      socket.on('error', () => {});
      socket.end('goodbye');
      heard.resolve(buffer(socket));
    }).listen(0, '127.0.0.1');
    await once(target, 'listening');
    const tunnel = await open(target);
    tunnel.resume();
    await once(tunnel, 'end');
    proxy.cut('reset');
    tunnel.end('still here');
    assert.equal((await heard.promise).toString(), 'still here');
    target.close();
  });
}

function* inPieces(bytes: Buffer, length: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
