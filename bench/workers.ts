import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { median } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';
import { cpuSecondsOf, withChildren } from './support/processes.ts';
import { token } from './support/tokens.ts';

const atOnce = 64;
const bulkTunnels = 16;
const chunk = Buffer.alloc(256 * 1024);

type WorkersRow = Row<'perSecond' | 'gatewayCores' | 'perGatewayCore'>;

/**
 * What more workers bring. The load generator runs on the same cores: where there are only two, the rate cannot double, and
 * what one core of the gateway does tells whether it would.
 */
export const workers = {
  name: 'workers',
  title: 'workers (opens by connect-tcp; GiB by CONNECT, target → client)',
  columns: {
    perSecond: ['per second', 2],
    gatewayCores: ['cores the gateway used', 2],
    perGatewayCore: ['per second and core of the gateway', 2],
  },
  measure: run,
} as const satisfies Figure<keyof WorkersRow['values']>;

interface Measured {
  readonly gateway: WorkersGateway;
  readonly measureMs: number;
}

async function run({ quick, folder }: Effort): Promise<readonly WorkersRow[]> {
  const [measureMs, rounds] = quick ? [1800, 2] : [6000, 4];
  const target = createServer((socket) => {
    socket.on('error', () => {});
    // A client that sends anything wants bytes without end; the others want only a tunnel.
    socket.once('data', () => pour(socket));
  });
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const { port } = target.address() as AddressInfo;
  const gateways: WorkersGateway[] = [];
  const results = new Map<string, WorkersRow[]>();
  try {
    for (const count of [1, 2]) gateways.push(await startWorkers(folder, count, port));
    // Interleaved, so that what else the machine does falls on both.
    for (let round = 0; round < rounds; round++) {
      for (const [what, measure] of Object.entries({ opens: measureOpens, GiB: measureBytes })) {
        for (const gateway of gateways) {
          const row = {
            what: `${what}, workers: ${gateway.count}`,
            values: await measure({ gateway, measureMs }),
          };
          results.set(row.what, [...(results.get(row.what) ?? []), row]);
        }
      }
    }
    return [...results].map(([what, rows]) => ({ what, values: mediansOf(rows) }));
  } finally {
    for (const { child } of gateways) child.kill('SIGTERM');
    await Promise.all(gateways.map(async ({ child }) => child.exitCode ?? once(child, 'exit')));
    target.close();
  }
}

function mediansOf(rows: readonly WorkersRow[]): WorkersRow['values'] {
  const of = (key: keyof WorkersRow['values']): number => median(rows.map(({ values }) => values[key]));
  return {
    perSecond: of('perSecond'),
    gatewayCores: of('gatewayCores'),
    perGatewayCore: of('perGatewayCore'),
  };
}

async function measureOpens({ gateway, measureMs }: Measured): Promise<WorkersRow['values']> {
  const fields = `Host: 127.0.0.1:${gateway.port}\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\nAuthorization: Bearer ${token({})}`;
  const request = Buffer.from(`GET /ssh/tcp/box/22/ HTTP/1.1\r\n${fields}\r\n\r\n`);
  return rateOf(gateway, async () => {
    let opened = 0;
    const until = performance.now() + measureMs;
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        while (performance.now() < until) {
          (await exchangeOnce(gateway.port, request, { status: '101' })).resetAndDestroy();
          opened++;
        }
      }),
    );
    return opened;
  });
}

async function measureBytes({ gateway, measureMs }: Measured): Promise<WorkersRow['values']> {
  const request = Buffer.from(
    `CONNECT box:22 HTTP/1.1\r\nHost: box:22\r\nProxy-Authorization: Bearer ${token({})}\r\n\r\n`,
  );
  const sockets = await Promise.all(
    Array.from({ length: bulkTunnels }, () =>
      exchangeOnce(gateway.port, request, { status: '200', buffer: Buffer.alloc(256 * 1024) }),
    ),
  );
  try {
    return await rateOf(gateway, async () => {
      const before = sockets.reduce((sum, { bytesRead }) => sum + bytesRead, 0);
      for (const socket of sockets) socket.write('!');
      await new Promise((resolve) => setTimeout(resolve, measureMs));
      const after = sockets.reduce((sum, { bytesRead }) => sum + bytesRead, 0);
      return (after - before) / 1024 ** 3;
    });
  } finally {
    for (const socket of sockets) socket.resetAndDestroy();
  }
}

async function rateOf(gateway: WorkersGateway, work: () => Promise<number>): Promise<WorkersRow['values']> {
  const [cpuBefore, startedAt] = [gateway.cpuMs(), performance.now()];
  const done = await work();
  const wallMs = performance.now() - startedAt;
  const cpuMs = gateway.cpuMs() - cpuBefore;
  return {
    perSecond: (done / wallMs) * 1000,
    gatewayCores: cpuMs / wallMs,
    perGatewayCore: (done / cpuMs) * 1000,
  };
}

/** A connection that the gateway has answered so; what comes on it is read into one buffer and dropped. */
async function exchangeOnce(
  port: number,
  request: Buffer,
  { status, buffer = Buffer.allocUnsafe(1024) }: { status: string; buffer?: Buffer },
): Promise<Socket> {
  const answered = Promise.withResolvers<string>();
  const socket = connect({
    port,
    host: '127.0.0.1',
    onread: {
      buffer,
      callback: (bytes) => {
        answered.resolve(buffer.toString('latin1', 0, Math.min(bytes, 12)));
        return true;
      },
    },
  });
  socket.on('error', answered.reject);
  socket.write(request);
  const head = await answered.promise;
  if (head !== `HTTP/1.1 ${status}`) throw new Error(head);
  return socket;
}

function pour(socket: Socket): void {
  const write = (): void => {
    while (!socket.destroyed && socket.write(chunk)) continue;
  };
  socket.on('drain', write);
  write();
}

interface WorkersGateway {
  readonly count: number;
  readonly port: number;
  readonly child: ChildProcess;
  /** Of all its processes. */
  cpuMs(): number;
}

async function startWorkers(folder: string, count: number, targetPort: number): Promise<WorkersGateway> {
  const settings = { workers: count, limits: { perSubject: 8000, perAddress: 8000, graceSeconds: 0 } };
  const where = { name: `workers-${count}`, cores: 'all' } as const;
  const { port, child } = await startGateway(folder, targetPort, where, settings);
  // The last worker is perhaps not there yet.
  const processes = count === 1 ? 1 : 1 + count;
  while (withChildren(child.pid!).length < processes) await new Promise((resolve) => setTimeout(resolve, 50));
  await new Promise((resolve) => setTimeout(resolve, 500));
  const pids = withChildren(child.pid!);
  return { count, port, child, cpuMs: () => 1000 * pids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0) };
}
