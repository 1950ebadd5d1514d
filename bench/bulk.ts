import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { performance } from 'node:perf_hooks';
import { entryNames } from '../client/entry/entry.ts';
import type { EntryName } from '../client/entry/entry.ts';
import { median } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { cpuMsOf, startGateway } from './support/gateway.ts';
import type { BenchGateway } from './support/gateway.ts';
import { startSquid } from './support/squid.ts';
import { openTunnel } from './support/tunnels.ts';

type BulkRow = Row<'cpuSecondsPerGiB' | 'least' | 'most' | 'mibPerSecond'>;

/** What the gateway spends on a byte, by each entry and in each direction. */
export const bulk = {
  name: 'bulk',
  title: 'bulk, in the clear on loopback',
  columns: {
    cpuSecondsPerGiB: ['gateway CPU s per GiB', 3],
    least: ['min', 3],
    most: ['max', 3],
    mibPerSecond: ['MiB/s', 0],
  },
  measure: run,
} as const satisfies Figure<keyof BulkRow['values']>;

const gib = 1024 ** 3;
const chunk = Buffer.alloc(64 * 1024, 'x');

interface Sample {
  readonly cpuSecondsPerGiB: number;
  readonly mibPerSecond: number;
}

async function run({ quick, folder }: Effort): Promise<readonly BulkRow[]> {
  const [bytes, rounds] = quick ? [gib / 4, 3] : [gib, 5];
  const directions = ['down', 'up'] as const;
  const targets = { down: await source(bytes), up: await sink(bytes) };
  const gateways = {
    down: await startGateway(folder, portOf(targets.down), 'down'),
    up: await startGateway(folder, portOf(targets.up), 'up'),
  };
  const squids = {
    down: await startSquid(folder, gateways.down.port),
    up: await startSquid(folder, gateways.up.port),
  };
  try {
    const samples = new Map<string, Sample[]>();
    for (let round = 0; round < rounds; round++) {
      for (const direction of directions) {
        const gateway = gateways[direction];
        const ways: [name: string, entry: EntryName, port: number][] = entryNames.map((entry) => [
          entry,
          entry,
          gateway.port,
        ]);
        const squid = squids[direction];
        if (squid) ways.push(['http through squid', 'http', squid.port]);
        for (const [name, entry, port] of ways) {
          const what = `${name}, ${direction === 'down' ? 'target to client' : 'client to target'}`;
          const sample = await measure(gateway, { entry, port, direction, bytes });
          samples.set(what, [...(samples.get(what) ?? []), sample]);
        }
      }
    }
    return [...samples].map(([what, each]) => row(what, each));
  } finally {
    for (const direction of directions) {
      gateways[direction].child.kill('SIGKILL');
      squids[direction]?.child.kill('SIGKILL');
      targets[direction].close();
    }
  }
}

function row(what: string, samples: readonly Sample[]): BulkRow {
  const cpu = samples.map(({ cpuSecondsPerGiB }) => cpuSecondsPerGiB);
  return {
    what,
    values: {
      cpuSecondsPerGiB: median(cpu),
      least: Math.min(...cpu),
      most: Math.max(...cpu),
      mibPerSecond: median(samples.map(({ mibPerSecond }) => mibPerSecond)),
    },
  };
}

async function measure(
  gateway: BenchGateway,
  how: {
    readonly entry: EntryName;
    readonly port: number;
    readonly direction: 'down' | 'up';
    readonly bytes: number;
  },
): Promise<Sample> {
  const tunnel = await openTunnel(how.entry, how.port);
  const cpuBefore = cpuMsOf(gateway.child.pid!);
  const startedAt = performance.now();
  const end = once(tunnel.resume(), 'end');
  if (how.direction === 'up') await pour(tunnel, how.bytes);
  await end;
  const seconds = (performance.now() - startedAt) / 1000;
  const cpuSeconds = (cpuMsOf(gateway.child.pid!) - cpuBefore) / 1000;
  tunnel.destroy();
  return {
    cpuSecondsPerGiB: (cpuSeconds * gib) / how.bytes,
    mibPerSecond: how.bytes / 1024 ** 2 / seconds,
  };
}

/** Sends that many bytes and the EOF. */
async function pour(stream: Duplex, bytes: number): Promise<void> {
  for (let sent = 0; sent < bytes; sent += chunk.length) {
    if (!stream.write(chunk)) await once(stream, 'drain');
  }
  stream.end();
}

async function source(bytes: number) {
  return listening((socket) => void pour(socket, bytes).catch(() => {}));
}

/** Ends when it has taken that many. */
async function sink(bytes: number) {
  return listening((socket) => {
    let taken = 0;
    socket.on('data', (data: Buffer) => {
      taken += data.length;
      if (taken >= bytes) socket.end();
    });
  });
}

async function listening(serve: (socket: Socket) => void) {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

function portOf(server: ReturnType<typeof createServer>): number {
  return (server.address() as AddressInfo).port;
}
