import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import type { Target } from '../../../protocol/target.ts';
import type { NetworkConfig } from '../../../server/config/config.ts';
import { nameResolver } from '../../../server/dial/resolve.ts';
import type { NameResolver } from '../../../server/dial/resolve.ts';
import { tcpDialer } from '../../../server/dial/tcp.ts';
import type { Grant } from '../../../server/policy/policy.ts';
import { startDnsServer } from './dns-server.ts';

const never = new AbortController().signal;
const loopback = { allow: ['127.0.0.0/8', '::1/128'], deny: [], nameServers: [] };

interface Listener {
  readonly port: number;
  /** The local addresses that were dialled, in order. */
  readonly dialled: string[];
  readonly sockets: Socket[];
}

async function listen(t: TestContext, host: string, port = 0): Promise<Listener> {
  const dialled: string[] = [];
  const sockets: Socket[] = [];
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    dialled.push(socket.localAddress ?? '');
    sockets.push(socket);
    socket.on('error', () => {});
  });
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  server.listen(port, host);
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, dialled, sockets };
}

/** A port of loopback on which nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

interface BenchOptions {
  readonly network?: NetworkConfig;
  readonly dialMs?: number;
  readonly resolver?: NameResolver;
  readonly own?: readonly number[];
}

function bench(t: TestContext, { network = loopback, dialMs = 5000, resolver, own = [] }: BenchOptions = {}) {
  const dialer = tcpDialer({
    network,
    limits: { dialMs },
    ownAddresses: own.map((port) => ({ kind: 'tcp', host: '127.0.0.1', port })),
    ...(resolver && { resolver }),
  });
  return async (address: Target, signal = never) => {
    const grant: Grant = { target: { host: 'box', port: 22 }, address, rule: 'rule 1' };
    const socket = await dialer.dial(grant, [signal]);
    t.after(() => socket.destroy());
    return socket;
  };
}

const answering = (...addresses: string[]): NameResolver => ({ resolve: () => Promise.resolve(addresses) });

describe('tcpDialer()', () => {
  it('dials a literal address and hands over a half-open socket with no listeners in the way', async (t) => {
    const target = await listen(t, '127.0.0.1');
    const socket = await bench(t)({ host: '127.0.0.1', port: target.port });
    assert.equal(socket.allowHalfOpen, true);
    assert.equal(socket.listenerCount('error'), 1);
    assert.equal(socket.listenerCount('data'), 0);
    const peer = await firstSocket(target);
    peer.end('late');
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(socket, 'end');
    assert.equal(Buffer.concat(chunks).toString(), 'late');
    socket.end('later still');
    const [got] = (await once(peer, 'data')) as [Buffer];
    assert.equal(got.toString(), 'later still');
  });

  it('does not end the process when the target resets before the owner listens', async (t) => {
    const target = await listen(t, '127.0.0.1');
    const socket = await bench(t)({ host: '127.0.0.1', port: target.port });
    (await firstSocket(target)).resetAndDestroy();
    // Not by once(): that would listen for `error` too.
    await new Promise((resolve) => socket.once('close', resolve));
    assert.equal(socket.destroyed, true);
  });

  it('never asks DNS for an address', async (t) => {
    const target = await listen(t, '127.0.0.1');
    const resolver = { resolve: () => assert.fail('asked') };
    await bench(t, { resolver })({ host: '127.0.0.1', port: target.port });
  });

  it('dials only those addresses of a name that may be dialled', async (t) => {
    const target = await listen(t, '127.0.0.3');
    const resolver = answering('169.254.169.254', '0.0.0.0', '10.9.9.9', '127.0.0.3');
    const socket = await bench(t, { resolver })({ host: 'box.example', port: target.port });
    assert.equal(socket.remoteAddress, '127.0.0.3');
  });

  it('throws ADDRESS_DENIED when none may be, and says no address to the caller', async (t) => {
    const dial = bench(t, { resolver: answering('169.254.169.254', '10.0.0.5') });
    await assert.rejects(dial({ host: 'box.example', port: 22 }), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'ADDRESS_DENIED');
      assert.doesNotMatch(error.message, /\d+\.\d+|network\.allow/);
      assert.match((error.cause as Error).message, /169\.254\.169\.254: .*10\.0\.0\.5: /);
      return true;
    });
    await assert.rejects(dial({ host: '10.0.0.5', port: 22 }), { code: 'ADDRESS_DENIED' });
    await assert.rejects(dial({ host: '::ffff:a00:5', port: 22 }), { code: 'ADDRESS_DENIED' });
  });

  it('never dials the gateway itself', async (t) => {
    const gateway = await listen(t, '127.0.0.1');
    const dial = bench(t, { own: [gateway.port] });
    await assert.rejects(dial({ host: '127.0.0.1', port: gateway.port }), { code: 'ADDRESS_DENIED' });
    await assert.rejects(dial({ host: '::ffff:7f00:1', port: gateway.port }), { code: 'ADDRESS_DENIED' });
    assert.deepEqual(gateway.dialled, []);
  });

  it('refused is DIAL_REFUSED at once', async (t) => {
    const started = performance.now();
    await assert.rejects(bench(t)({ host: '127.0.0.1', port: await closedPort() }), { code: 'DIAL_REFUSED' });
    assert.ok(performance.now() - started < 1000);
  });

  it('goes on to the next address at once when one refuses, and says the most telling failure when all do', async (t) => {
    const target = await listen(t, '127.0.0.4');
    const dial = bench(t, { resolver: answering('127.0.0.2', '127.0.0.3', '127.0.0.4') });
    const started = performance.now();
    const socket = await dial({ host: 'box.example', port: target.port });
    assert.equal(socket.remoteAddress, '127.0.0.4');
    // Two waits between attempts would be 500 ms.
    assert.ok(performance.now() - started < 480);
    const none = bench(t, { resolver: answering('127.0.0.2', '127.0.0.3') });
    await assert.rejects(none({ host: 'box.example', port: target.port }), { code: 'DIAL_REFUSED' });
  });

  it('does not wait for an address that is silent, and gives it up', async (t) => {
    const target = await listen(t, '127.0.0.4');
    const full = await fullListener(t, '127.0.0.2', target.port);
    const dial = bench(t, { resolver: answering('127.0.0.2', '127.0.0.4') });
    const started = performance.now();
    const socket = await dial({ host: 'box.example', port: target.port });
    const tookMs = performance.now() - started;
    assert.equal(socket.remoteAddress, '127.0.0.4');
    assert.ok(tookMs >= 240 && tookMs < 3000, String(tookMs));
    assert.equal(full.destroyed, false);
  });

  it('a silent target is DIAL_TIMEOUT after dialMs', async (t) => {
    const port = await closedPort();
    await fullListener(t, '127.0.0.2', port);
    const started = performance.now();
    await assert.rejects(bench(t, { dialMs: 400 })({ host: '127.0.0.2', port }), { code: 'DIAL_TIMEOUT' });
    const tookMs = performance.now() - started;
    assert.ok(tookMs >= 390 && tookMs < 3000, String(tookMs));
  });

  it('a resolver that hangs counts into dialMs', async (t) => {
    const server = await startDnsServer(t, () => 'silence');
    const resolver = nameResolver({ nameServers: [server.address] });
    await assert.rejects(bench(t, { dialMs: 200, resolver })({ host: 'box.example', port: 22 }), {
      code: 'DIAL_TIMEOUT',
    });
  });

  it('throws the reason of the signal, before and during the dial', async (t) => {
    const port = await closedPort();
    await fullListener(t, '127.0.0.2', port);
    const abort = new AbortController();
    const dialling = bench(t)({ host: '127.0.0.2', port }, abort.signal);
    abort.abort(new Error('the caller has gone'));
    await assert.rejects(dialling, /the caller has gone/);
    await assert.rejects(bench(t)({ host: '127.0.0.2', port }, abort.signal), /the caller has gone/);
  });

  it('dials what it has checked when the name changes between public and private at each question (A7)', async (t) => {
    const open = await listen(t, '127.0.0.3');
    const closed = await listen(t, '127.0.0.5', open.port);
    let turn = 0;
    const server = await startDnsServer(t, () => {
      turn += 1;
      return {
        addresses: turn % 3 === 0 ? ['127.0.0.3', '127.0.0.5'] : [turn % 2 === 0 ? '127.0.0.5' : '127.0.0.3'],
        ttlSeconds: 0,
      };
    });
    // Time flies, so that each dial is a new question.
    let nowMs = 0;
    const resolver = nameResolver({ nameServers: [server.address], now: () => (nowMs += 10_000) });
    const dial = bench(t, { network: { ...loopback, allow: ['127.0.0.3/32'] }, resolver });
    const rounds = Math.min(10_000, Number(process.env['POSTERN_FUZZ_RUNS'] ?? 200));
    for (let at = 0; at < rounds; at++) {
      const outcome = await dial({ host: 'box.example', port: open.port }).then(
        (socket) => {
          const dialled = socket.remoteAddress ?? '';
          socket.destroy();
          return dialled;
        },
        (error: unknown) => (error as { code: string }).code,
      );
      assert.ok(outcome === '127.0.0.3' || outcome === 'ADDRESS_DENIED', outcome);
    }
    assert.deepEqual(closed.dialled, []);
    assert.ok(open.dialled.length > 0 && server.asked.length >= rounds);
  });
});

async function firstSocket(listener: Listener): Promise<Socket> {
  while (listener.sockets.length === 0) await new Promise((resolve) => setImmediate(resolve));
  return listener.sockets[0]!;
}

/** A listener with a full backlog: the kernel lets further connections wait without an answer. Gives one that fills it. */
async function fullListener(t: TestContext, host: string, port: number): Promise<Socket> {
  const { connect } = await import('node:net');
  const { Worker } = await import('node:worker_threads');
  // In a thread that blocks, nobody accepts.
  const worker = new Worker(
    `const { createServer } = require('node:net'); const { parentPort } = require('node:worker_threads');
     createServer().listen({ host: ${JSON.stringify(host)}, port: ${port}, backlog: 1 }, () => {
       parentPort.postMessage('up');
       Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20_000);
     });`,
    { eval: true },
  );
  t.after(() => worker.terminate());
  await once(worker, 'message');
  const fillers = Array.from({ length: 8 }, () => connect({ host, port }).on('error', () => {}));
  t.after(() => {
    for (const filler of fillers) filler.destroy();
  });
  await once(fillers[0]!, 'connect');
  return fillers[0]!;
}
