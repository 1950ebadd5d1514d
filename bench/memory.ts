import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { entryNames } from '../client/entry/entry.ts';
import type { EntryName } from '../client/entry/entry.ts';
import type { RelayStream } from '../stream/relay-stream.ts';
import { startFaultProxy } from '../test/support/fault-proxy.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';
import { openTunnel } from './support/tunnels.ts';

type MemoryRow = Row<'kibEach'>;

/** The collector takes its time. */
const settleMs = 5000;
const batch = 250;

/** What a tunnel costs the gateway while nothing is said in it. */
export const memory = {
  name: 'memory',
  title: 'idle tunnels',
  columns: { kibEach: ['gateway RSS each, KiB', 1] },
  measure: run,
} as const satisfies Figure<keyof MemoryRow['values']>;

async function run({ quick, folder }: Effort): Promise<readonly MemoryRow[]> {
  const [first, more] = quick ? [500, 1000] : [1000, 3000];
  const target = createServer((socket) => void socket.on('error', () => {}).write('SSH-2.0-bench\r\n'));
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const targetPort = (target.address() as AddressInfo).port;
  try {
    const rows: MemoryRow[] = [];
    for (const entry of entryNames) rows.push(await measure(entry, { folder, targetPort, first, more }));
    rows.push(await measureDetached({ folder, targetPort, first, more }));
    return rows;
  } finally {
    target.close();
  }
}

interface Parts {
  readonly folder: string;
  readonly targetPort: number;
  readonly first: number;
  readonly more: number;
}

async function measure(entry: EntryName, { folder, targetPort, first, more }: Parts): Promise<MemoryRow> {
  const gateway = await startGateway(folder, targetPort, entry);
  const proxy = await startFaultProxy(gateway.port);
  const tunnels: Duplex[] = [];
  const rssSince = (before: number): number => (rssKiBOf(gateway.child.pid!) - before) / more;
  try {
    // What the first ones cost is code, and room that the heap makes, more than tunnels.
    tunnels.push(...(await open(entry, proxy.port, first)));
    await delay(settleMs);
    const before = rssKiBOf(gateway.child.pid!);
    tunnels.push(...(await open(entry, proxy.port, more)));
    await delay(settleMs);
    return { what: entry, values: { kibEach: rssSince(before) } };
  } finally {
    for (const tunnel of tunnels) tunnel.destroy();
    gateway.child.kill('SIGKILL');
    proxy.close();
  }
}

/** In batches, so that what the connections of one cost while they are there is room for the next. */
async function measureDetached({ folder, targetPort, first, more }: Parts): Promise<MemoryRow> {
  const gateway = await startGateway(folder, targetPort, 'detached');
  const proxy = await startFaultProxy(gateway.port);
  const openAndCut = async (count: number): Promise<void> => {
    for (let at = 0; at < count; at += batch) {
      const tunnels = await open('relay', proxy.port, batch);
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
    await openAndCut(first);
    await delay(settleMs);
    const before = rssKiBOf(gateway.child.pid!);
    await openAndCut(more);
    await delay(settleMs);
    const kibEach = (rssKiBOf(gateway.child.pid!) - before) / more;
    return { what: 'relay, without a connection', values: { kibEach } };
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

async function open(entry: EntryName, port: number, count: number): Promise<readonly Duplex[]> {
  const tunnels: Duplex[] = [];
  for (let at = 0; at < count; at += 20)
    tunnels.push(
      ...(await Promise.all(Array.from({ length: Math.min(20, count - at) }, () => openTunnel(entry, port)))),
    );
  for (const tunnel of tunnels) tunnel.resume();
  return tunnels;
}

/** The resident memory of a process (proc(5), VmRSS). */
function rssKiBOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
}
