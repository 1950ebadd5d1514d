import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { RelayStream } from '../stream/relay-stream.ts';
import { startFaultProxy } from '../test/support/fault-proxy.ts';
import { quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';
import type { BenchGateway } from './support/gateway.ts';
import { onLoadCore } from './support/processes.ts';
import { echoByte, openRaw, rawEntries } from './support/raw-tunnels.ts';
import type { RawEntryName, RawRequest } from './support/raw-tunnels.ts';
import { token } from './support/tokens.ts';
import { openTunnel } from './support/tunnels.ts';

type MemoryRow = Row<'held' | 'kibEach' | 'kibEachOfAll' | 'echoP99Ms'>;

/** The collector takes its time. */
const pauseMs = 5000;
const batch = 250;
const echoesPerSecond = 500;

/** What a tunnel costs the gateway while it is silent, and how long a byte takes through one of so many. */
export const memory = {
  name: 'memory',
  title: 'idle tunnels',
  columns: {
    held: ['held', 0],
    // Without what the first ones cost: code, and room that the heap makes once.
    kibEach: ['gateway RSS each, KiB', 1],
    kibEachOfAll: ['including the first ones', 1],
    echoP99Ms: ['echo p99 ms', 2],
  },
  measure: (effort: Effort) => onLoadCore(() => run(effort)),
} as const satisfies Figure<keyof MemoryRow['values']>;

async function run({ quick, folder }: Effort): Promise<readonly MemoryRow[]> {
  const target = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes) => void socket.write(bytes));
  });
  target.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(target, 'listening');
  const targetPort = (target.address() as AddressInfo).port;
  try {
    const rows: MemoryRow[] = [];
    const parts = { folder, targetPort, first: 2000, more: 6000, echoMs: quick ? 1000 : 10_000 };
    for (const entry of quick ? (['connect', 'websocket'] as const) : rawNames)
      rows.push(await measure(entry, parts));
    if (quick) return rows;
    const fewer = { ...parts, first: 1000, more: 3000 };
    return [...rows, await measureRelay(fewer), await measureDetached(fewer)];
  } finally {
    target.close();
  }
}

const rawNames = Object.keys(rawEntries) as RawEntryName[];

interface Parts {
  readonly folder: string;
  readonly targetPort: number;
  readonly first: number;
  readonly more: number;
  readonly echoMs: number;
}

/** More than any bench needs. */
const settings = { limits: { perSubject: 20_000, perAddress: 20_000, tunnels: 20_000 } };

async function measure(
  entry: RawEntryName,
  { folder, targetPort, first, more, echoMs }: Parts,
): Promise<MemoryRow> {
  const gateway = await startGateway(folder, targetPort, entry, settings);
  const request = rawEntries[entry](gateway.port, `Bearer ${token({})}`);
  const tunnels: Socket[] = [];
  const openMore = async (count: number): Promise<void> => {
    const until = tunnels.length + count;
    let at = tunnels.length;
    await Promise.all(
      Array.from({ length: 48 }, async () => {
        while (at++ < until) tunnels.push(await openRaw(gateway.port, request));
      }),
    );
  };
  try {
    const atStart = rssKiBOf(gateway);
    await openMore(first);
    await delay(500);
    const before = rssKiBOf(gateway);
    await openMore(more);
    await delay(500);
    const after = rssKiBOf(gateway);
    const values = {
      held: tunnels.length,
      kibEach: (after - before) / more,
      kibEachOfAll: (after - atStart) / (first + more),
      echoP99Ms: quantile(await echoes(tunnels, request, echoMs), 0.99),
    };
    return { what: entry, values };
  } finally {
    for (const tunnel of tunnels) tunnel.destroy();
    gateway.child.kill('SIGKILL');
  }
}

/** Times of bytes through tunnels here and there, each sent when its time has come. */
async function echoes(tunnels: readonly Socket[], request: RawRequest, ms: number): Promise<number[]> {
  const startedAt = performance.now();
  const times: number[] = [];
  const all: Promise<void>[] = [];
  const echo = async (tunnel: Socket): Promise<void> => {
    const sentAt = performance.now();
    await echoByte(tunnel, request);
    times.push(performance.now() - sentAt);
  };
  while (performance.now() - startedAt < ms) {
    // A prime number of steps apart, so that no tunnel comes twice soon.
    while (all.length < ((performance.now() - startedAt) / 1000) * echoesPerSecond)
      all.push(echo(tunnels[(all.length * 4999) % tunnels.length]!));
    await delay(1);
  }
  await Promise.all(all);
  return times;
}

async function measureRelay({ folder, targetPort, first, more }: Parts): Promise<MemoryRow> {
  const gateway = await startGateway(folder, targetPort, 'relay', settings);
  const tunnels: Duplex[] = [];
  try {
    const atStart = rssKiBOf(gateway);
    tunnels.push(...(await openRelays(gateway.port, first)));
    await delay(pauseMs);
    const before = rssKiBOf(gateway);
    tunnels.push(...(await openRelays(gateway.port, more)));
    await delay(pauseMs);
    const after = rssKiBOf(gateway);
    const times: number[] = [];
    for (let at = 0; at < 1000; at++) times.push(await echoOf(tunnels[(at * 997) % tunnels.length]!));
    const values = {
      held: tunnels.length,
      kibEach: (after - before) / more,
      kibEachOfAll: (after - atStart) / (first + more),
      echoP99Ms: quantile(times, 0.99),
    };
    return { what: 'relay', values };
  } finally {
    for (const tunnel of tunnels) tunnel.destroy();
    gateway.child.kill('SIGKILL');
  }
}

async function echoOf(tunnel: Duplex): Promise<number> {
  const sentAt = performance.now();
  tunnel.write('x');
  await once(tunnel, 'data');
  return performance.now() - sentAt;
}

/** In batches, so that what the connections of one cost while they are there is room for the next. */
async function measureDetached({ folder, targetPort, first, more }: Parts): Promise<MemoryRow> {
  const gateway = await startGateway(folder, targetPort, 'detached', settings);
  const proxy = await startFaultProxy(gateway.port);
  const openAndCut = async (count: number): Promise<void> => {
    for (let at = 0; at < count; at += batch) {
      const tunnels = await openRelays(proxy.port, batch);
      // Until all is acknowledged.
      await delay(500);
      proxy.isUp = false;
      proxy.cut('reset');
      // Without a connection there is none to say goodbye on: the gateway keeps the tunnel.
      await Promise.all(tunnels.map((tunnel) => lost(tunnel)));
      proxy.isUp = true;
    }
  };
  try {
    const atStart = rssKiBOf(gateway);
    await openAndCut(first);
    await delay(pauseMs);
    const before = rssKiBOf(gateway);
    await openAndCut(more);
    await delay(pauseMs);
    const after = rssKiBOf(gateway);
    const values = {
      held: first + more,
      kibEach: (after - before) / more,
      kibEachOfAll: (after - atStart) / (first + more),
      // There is no client to echo to.
      echoP99Ms: NaN,
    };
    return { what: 'relay, without a connection', values };
  } finally {
    gateway.child.kill('SIGKILL');
    proxy.close();
  }
}

/** Resolves when the client has seen that its connection is gone; it does not come back then. */
async function lost(tunnel: Duplex): Promise<void> {
  while ((tunnel as RelayStream).isAttached) await delay(10);
  tunnel.destroy();
}

async function openRelays(port: number, count: number): Promise<readonly Duplex[]> {
  const tunnels: Duplex[] = [];
  for (let at = 0; at < count; at += 20)
    tunnels.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(20, count - at) }, () => openTunnel('relay', port)),
      )),
    );
  for (const tunnel of tunnels) tunnel.resume();
  return tunnels;
}

/** The resident memory of a process (proc(5), VmRSS). */
function rssKiBOf({ child }: BenchGateway): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]);
}
