// SECURITY R18: a network on which every second connection fails and every tenth packet breaks the one that is there.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { direct } from '../../client/egress/direct.ts';
import type { Egress } from '../../client/egress/egress.ts';
import { relay } from '../../client/entry/resumable.ts';
import { ClientError } from '../../client/errors/failure.ts';
import { Secret } from '../../protocol/secret.ts';
import { startEcho, startParts } from '../server/support/gateway-parts.ts';
import type { Parts } from '../server/support/gateway-parts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { patient } from '../support/slowness.ts';

const sessions = process.env.POSTERN_LONG ? 10_000 : 30;
const atATime = process.env.POSTERN_LONG ? 100 : 40;
const bytesEach = 64 * 1024;
/** The first bytes go out one by one, as a person types them. */
const singleBytes = 64;
const packetBytes = 1460;

let parts: Parts;
let echo: { port: number; close(): void };
before(async () => {
  echo = await startEcho();
  // A session whose very last word is lost is over only when its client has not come back in time.
  parts = await startParts({ relays: { keepMs: process.env.POSTERN_LONG ? 60_000 : 20_000 } });
});
after(async () => {
  await parts.close();
  echo.close();
});

const counts = { connections: 0, failed: 0, broken: 0 };

/** An egress on which half of the connections fail, and those that do not break with one in ten of their packets. */
const flaky: Egress = {
  name: 'flaky',
  async connect(gateway, signal) {
    counts.connections++;
    if (Math.random() < 0.5) {
      counts.failed++;
      throw new ClientError('GATEWAY_UNREACHABLE', 'as the test says');
    }
    const socket = await direct.connect(gateway, signal);
    breakSometimes(socket);
    return socket;
  },
};

/**
 * With one in ten packets that come, and one in fifty writes (a message is two, and they go out in bursts): a reset, an
 * end, or an error as of a write (EPIPE).
 */
function breakSometimes(socket: Socket): void {
  let packets = 0;
  const [read, write] = [socket.push.bind(socket), socket.write.bind(socket)];
  // The handshake is let through: without a greeting there is nothing to resume.
  const breaks = (chance: number): boolean => {
    if (packets++ < 4 || Math.random() >= chance) return false;
    counts.broken++;
    const how = Math.floor(Math.random() * 3);
    if (how === 0) socket.resetAndDestroy();
    else if (how === 1) socket.destroy();
    else socket.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    return true;
  };
  // One packet comes at a time.
  const arriving: (Buffer | null)[] = [];
  const deliver = (): void => {
    const packet = arriving.shift()!;
    if (!socket.destroyed && !(packet !== null && breaks(0.1))) read(packet);
    if (arriving.length > 0) setImmediate(deliver);
  };
  socket.push = (chunk: Buffer | null): boolean => {
    if (arriving.length === 0) setImmediate(deliver);
    if (chunk === null) arriving.push(null);
    else
      for (let at = 0; at < chunk.length; at += packetBytes)
        arriving.push(chunk.subarray(at, at + packetBytes));
    return true;
  };
  socket.write = ((...args: Parameters<typeof write>): boolean =>
    !breaks(0.02) && write(...args)) as typeof write;
}

async function open(egress: Egress): Promise<Duplex> {
  const request = {
    gateway: new URL(`http://127.0.0.1:${parts.port}/ssh/`),
    target: { host: '127.0.0.1', port: echo.port },
    token: new Secret('good'),
  };
  // The caller of `open` is told of a failure, and tries again.
  for (let tries = 0; ; tries++) {
    try {
      return await relay.open(request, egress, AbortSignal.timeout(patient(10_000)));
    } catch (error) {
      if (tries > 50) throw error;
    }
  }
}

async function runSession(): Promise<void> {
  const sent = randomBytes(bytesEach);
  const tunnel = await open(flaky);
  const hash = createHash('sha256');
  let received = 0;
  tunnel.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    received += chunk.length;
  });
  const ended = once(tunnel, 'end');
  for (let at = 0; at < singleBytes; at++) tunnel.write(sent.subarray(at, at + 1));
  for (let at = singleBytes; at < bytesEach;) {
    const size = 1 + Math.floor(Math.random() * 8192);
    if (!tunnel.write(sent.subarray(at, at + size))) await once(tunnel, 'drain');
    at += size;
  }
  tunnel.end();
  await ended;
  assert.equal(received, bytesEach);
  assert.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'));
  if (!tunnel.closed) await once(tunnel, 'close');
}

describe('a network that fails all the time', () => {
  it(`carries ${sessions} sessions of 64 KiB each way, to the byte`, { timeout: 10_800_000 }, async () => {
    let left = sessions;
    const runners = Array.from({ length: atATime }, async () => {
      while (left-- > 0) await runSession();
    });
    await Promise.all(runners);
    await parts.sessions.empty();
    // The network was as bad as it says.
    assert.ok(counts.failed > sessions / 2, `${counts.failed} connections failed`);
    assert.ok(counts.broken > sessions, `${counts.broken} connections broke`);
    assert.equal(parts.sessions.count, 0);
    assert.equal(parts.relays.unackedBytes, 0);
    assert.equal(parts.relays.detachedCount, 0);
  });

  it('is not asked again as fast as it cuts', async () => {
    const proxy = await startFaultProxy(parts.port);
    const request = {
      gateway: new URL(`http://127.0.0.1:${proxy.port}/ssh/`),
      target: { host: '127.0.0.1', port: echo.port },
      token: new Secret('good'),
    };
    const tunnel = await relay.open(request, direct, AbortSignal.timeout(patient(10_000)));
    tunnel.on('error', () => {});
    // Long enough for the greeting, and for nothing after it.
    proxy.cutAfter(1100, 'reset');
    proxy.cut('reset');
    const from = proxy.count;
    await new Promise((resolve) => setTimeout(resolve, 3000));
    // Without a pause there are hundreds.
    assert.ok(proxy.count - from < 20, `${proxy.count - from} connections in 3 s`);
    proxy.cutAfter(Infinity, 'reset');
    tunnel.write('still here');
    const [heard] = (await once(tunnel, 'data')) as [Buffer];
    assert.equal(heard.toString(), 'still here');
    tunnel.destroy();
    proxy.close();
  });
});
