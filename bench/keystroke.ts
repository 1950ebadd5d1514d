import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { performance } from 'node:perf_hooks';
import { entryNames } from '../client/entry/entry.ts';
import type { EntryName } from '../client/entry/entry.ts';
import { quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';
import { startSquid } from './support/squid.ts';
import { openTunnel } from './support/tunnels.ts';

type KeystrokeRow = Row<'medianMs' | 'p99Ms'>;

/** How long a keystroke takes to the target and back. */
export const keystroke = {
  name: 'keystroke',
  title: 'keystroke round trip (40 bytes), in the clear on loopback',
  columns: { medianMs: ['median ms', 3], p99Ms: ['p99 ms', 3] },
  measure: run,
} as const satisfies Figure<keyof KeystrokeRow['values']>;

async function run({ quick, folder }: Effort): Promise<readonly KeystrokeRow[]> {
  const target = createServer((socket) => {
    socket.on('error', () => {});
    socket.setNoDelay(true);
    socket.pipe(socket);
  });
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const gateway = await startGateway(folder, (target.address() as AddressInfo).port);
  const squid = await startSquid(folder, gateway.port);
  try {
    const ways: { what: string; entry: EntryName; port: number; times: number[] }[] = entryNames.map(
      (entry) => ({ what: entry, entry, port: gateway.port, times: [] }),
    );
    if (squid) ways.push({ what: 'http, through squid', entry: 'http', port: squid.port, times: [] });
    for (let round = 0; round < (quick ? 4 : 20); round++) {
      for (const { entry, port, times } of ways) times.push(...(await type(entry, port)));
    }
    return ways.map(({ what, times }) => ({
      what,
      values: { medianMs: quantile(times, 0.5), p99Ms: quantile(times, 0.99) },
    }));
  } finally {
    squid?.child.kill('SIGKILL');
    gateway.child.kill('SIGKILL');
    target.close();
  }
}

async function type(entry: EntryName, port: number): Promise<readonly number[]> {
  const tunnel = await openTunnel(entry, port);
  const key = Buffer.alloc(40, 'k');
  const times: number[] = [];
  for (let number = 0; number < 600; number++) {
    const startedAt = performance.now();
    tunnel.write(key);
    await once(tunnel, 'data');
    // The first ones warm the code up.
    if (number >= 100) times.push(performance.now() - startedAt);
  }
  tunnel.destroy();
  return times;
}
