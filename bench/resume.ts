import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { performance } from 'node:perf_hooks';
import { startFaultProxy } from '../test/support/fault-proxy.ts';
import { median, quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';
import { cpuSecondsOf } from './support/processes.ts';
import { openTunnel } from './support/tunnels.ts';

type ResumeRow = Row<'medianMs' | 'p99Ms' | 'allMs' | 'gatewayCpuMsEach'>;

/** How long it takes until all tunnels go on when the proxy before the gateway has been started again. */
export const resumes = {
  name: 'resume',
  title: 'tunnels resumed after a restart of the proxy',
  columns: {
    medianMs: ['median ms', 0],
    p99Ms: ['p99 ms', 0],
    allMs: ['all, ms', 0],
    gatewayCpuMsEach: ['gateway CPU ms each', 2],
  },
  measure: run,
} as const satisfies Figure<keyof ResumeRow['values']>;

/** How long the proxy is away. */
const awayMs = 1000;

async function run({ quick, folder }: Effort): Promise<readonly ResumeRow[]> {
  const count = quick ? 500 : 2000;
  const target = createServer((socket) => {
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const gateway = await startGateway(folder, (target.address() as AddressInfo).port);
  const proxy = await startFaultProxy(gateway.port);
  const tunnels: Duplex[] = [];
  try {
    for (let at = 0; at < count; at += 20)
      tunnels.push(...(await Promise.all(Array.from({ length: 20 }, () => openTunnel('relay', proxy.port)))));
    proxy.isUp = false;
    proxy.cut('reset');
    const echoes = tunnels.map(async (tunnel) => {
      tunnel.write('still here?');
      await once(tunnel, 'data');
      return performance.now();
    });
    await new Promise((resolve) => setTimeout(resolve, awayMs));
    const cpuBefore = cpuSecondsOf(gateway.child.pid!);
    proxy.isUp = true;
    const upAt = performance.now();
    const times = (await Promise.all(echoes)).map((at) => at - upAt);
    const values = {
      medianMs: median(times),
      p99Ms: quantile(times, 0.99),
      allMs: Math.max(...times),
      gatewayCpuMsEach: (1000 * (cpuSecondsOf(gateway.child.pid!) - cpuBefore)) / count,
    };
    return [{ what: `${count} tunnels`, values }];
  } finally {
    for (const tunnel of tunnels) tunnel.destroy();
    gateway.child.kill('SIGKILL');
    proxy.close();
    target.close();
  }
}
