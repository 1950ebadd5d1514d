import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { join } from 'node:path';
import { mkdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { entryNames } from '../client/entry/entry.ts';
import type { EntryName } from '../client/entry/entry.ts';
import { startFaultProxy } from '../test/support/fault-proxy.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';
import { openTunnel } from './support/tunnels.ts';

type MemoryRow = Row<'kibEach'>;

/** What a tunnel costs the gateway while nothing is said in it. */
export const memory = {
  name: 'memory',
  title: 'idle tunnels',
  columns: { kibEach: ['gateway RSS each, KiB', 1] },
  measure: run,
} as const satisfies Figure<keyof MemoryRow['values']>;

async function run({ quick, folder }: Effort): Promise<readonly MemoryRow[]> {
  const count = quick ? 500 : 2000;
  const target = createServer((socket) => void socket.on('error', () => {}).write('SSH-2.0-bench\r\n'));
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const targetPort = (target.address() as AddressInfo).port;
  try {
    const rows: MemoryRow[] = [];
    for (const entry of entryNames) rows.push(...(await measure(entry, { folder, targetPort, count })));
    return rows;
  } finally {
    target.close();
  }
}

async function measure(
  entry: EntryName,
  {
    folder,
    targetPort,
    count,
  }: { readonly folder: string; readonly targetPort: number; readonly count: number },
): Promise<readonly MemoryRow[]> {
  mkdirSync(join(folder, entry));
  const gateway = await startGateway(join(folder, entry), targetPort);
  const proxy = await startFaultProxy(gateway.port);
  const tunnels: Duplex[] = [];
  try {
    // What the first ones cost is code and not tunnels.
    tunnels.push(...(await open(entry, proxy.port, 100)));
    await delay(2000);
    const before = rssKiBOf(gateway.child.pid!);
    tunnels.push(...(await open(entry, proxy.port, count)));
    await delay(3000);
    const rows = [
      { what: entry as string, values: { kibEach: (rssKiBOf(gateway.child.pid!) - before) / count } },
    ];
    if (entry !== 'relay') return rows;
    proxy.isUp = false;
    proxy.cut('reset');
    await delay(5000);
    const kibEach = (rssKiBOf(gateway.child.pid!) - before) / count;
    return [...rows, { what: 'relay, without a connection', values: { kibEach } }];
  } finally {
    for (const tunnel of tunnels) tunnel.destroy();
    gateway.child.kill('SIGKILL');
    proxy.close();
  }
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
