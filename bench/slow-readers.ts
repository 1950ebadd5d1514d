import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';
import type { BenchGateway } from './support/gateway.ts';
import { onLoadCore } from './support/processes.ts';
import { echoByte, openRaw, rawEntries } from './support/raw-tunnels.ts';
import type { RawEntryName, RawRequest } from './support/raw-tunnels.ts';
import { token } from './support/tokens.ts';

type SlowRow = Row<'offeredGib' | 'takenMib' | 'growthMib' | 'aloneP99Ms' | 'floodP99Ms' | 'besideP99Ms'>;

const readers = 200;
const offeredBytes = 10 * 1024 ** 3;
/** Of the clients that read at all. */
const readBytesPerSecond = 10 * 1024;
const tickMs = 250;
const typistCount = 10;
const keystrokesPerSecond = 500;

/** What clients that read nothing, or hardly anything, of all that is sent to them cost the gateway and its other users. */
export const slowReaders = {
  name: 'slow-readers',
  title: `${readers} clients, half reading ${readBytesPerSecond / 1024} KiB/s and half nothing`,
  columns: {
    offeredGib: ['offered, GiB', 0],
    takenMib: ['of which the gateway and the kernel accepted, MiB', 0],
    growthMib: ['peak growth of gateway RSS, MiB', 1],
    aloneP99Ms: ['keystroke p99 ms without them', 2],
    floodP99Ms: ['while their buffers fill', 2],
    besideP99Ms: ['alongside them', 2],
  },
  measure: (effort: Effort) => onLoadCore(() => run(effort)),
} as const satisfies Figure<keyof SlowRow['values']>;

async function run({ quick, folder }: Effort): Promise<readonly SlowRow[]> {
  const rows: SlowRow[] = [];
  const entries = quick
    ? (['connect', 'websocket'] as const)
    : (Object.keys(rawEntries) as readonly RawEntryName[]);
  for (const entry of entries)
    rows.push(
      await measure(entry, { folder, aloneMs: quick ? 1000 : 10_000, besideMs: quick ? 2000 : 30_000 }),
    );
  return rows;
}

interface Times {
  readonly folder: string;
  readonly aloneMs: number;
  readonly besideMs: number;
}

/** A target that echoes, for the clients that type. */
async function startEcho(): Promise<{ readonly port: number; close(): void }> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes) => void socket.write(bytes));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, close: () => void server.close() };
}

/** A target that pours as much as its clients take. `taken` says how many bytes that were so far. */
async function startPouring(): Promise<{
  port: number;
  taken(): number;
  close(): Promise<unknown>;
}> {
  const worker = new Worker(new URL('support/pouring-target.ts', import.meta.url), {
    workerData: { eachBytes: offeredBytes / readers },
  });
  const [port] = (await once(worker, 'message')) as [number];
  let taken = 0;
  worker.on('message', (bytes: number) => (taken = bytes));
  return {
    port,
    taken: () => taken,
    close: () => worker.terminate(),
  };
}

async function measure(entry: RawEntryName, { folder, aloneMs, besideMs }: Times): Promise<SlowRow> {
  const [echo, pouring] = [await startEcho(), await startPouring()];
  const gateway = await startGateway(folder, echo.port, `slow-${entry}`, {
    limits: { perSubject: 1000, perAddress: 1000 },
    targets: {
      box: { address: `127.0.0.1:${echo.port}` },
      flood: { address: `127.0.0.1:${pouring.port}` },
    },
    rules: [{ groups: ['dev'], targets: ['box', 'flood'] }],
  });
  const credentials = `Bearer ${token({})}`;
  const toEcho = rawEntries[entry](gateway.port, credentials);
  const toFlood = rawEntries[entry](gateway.port, credentials, 'flood');
  const all: Socket[] = [];
  const open = async (request: RawRequest): Promise<Socket> => {
    const socket = await openRaw(gateway.port, request);
    all.push(socket);
    return socket;
  };
  const stop = new AbortController();
  try {
    const typists = await Promise.all(Array.from({ length: typistCount }, () => open(toEcho)));
    const slow = await Promise.all(Array.from({ length: readers }, () => open(toFlood)));
    const type = (ms: number): Promise<number[]> =>
      typed(ms, typists, async (socket) => echoByte(socket, toEcho));
    // The first ones warm the code up.
    await type(500);
    const alone = await type(aloneMs);
    const before = rssMibOf(gateway);
    let peak = before;
    const watching = setInterval(() => (peak = Math.max(peak, rssMibOf(gateway))), 50);
    for (const [number, socket] of slow.entries()) {
      socket.pause();
      socket.write(toFlood.byte);
      if (number % 2 === 0) void readSlowly(socket, stop.signal);
    }
    // Until the buffers of the kernel are full it is a flood, and no client is slow.
    const flood: number[] = [];
    for (let taken = -1, now = 0; now > taken * 1.05; now = pouring.taken()) {
      taken = now;
      flood.push(...(await type(500)));
    }
    const beside = await type(besideMs);
    clearInterval(watching);
    const values = {
      offeredGib: offeredBytes / 1024 ** 3,
      takenMib: pouring.taken() / 1024 ** 2,
      growthMib: peak - before,
      aloneP99Ms: quantile(alone, 0.99),
      floodP99Ms: quantile(flood, 0.99),
      besideP99Ms: quantile(beside, 0.99),
    };
    return { what: entry, values };
  } finally {
    stop.abort();
    for (const socket of all) socket.destroy();
    gateway.child.kill('SIGKILL');
    echo.close();
    await pouring.close();
  }
}

/** Reads a little at a time until the signal says stop. What waits in this process is part of what was read. */
async function readSlowly(socket: Socket, signal: AbortSignal): Promise<void> {
  const each = Math.floor((readBytesPerSecond * tickMs) / 1000);
  // Looking at what is there makes Node.js read on; without it nothing is read at all.
  while (!signal.aborted) {
    socket.read(Math.min(each, socket.readableLength));
    await delay(tickMs);
  }
}

/** How long keystrokes took to their target and back, each typed when its time had come. */
async function typed(
  ms: number,
  typists: readonly Socket[],
  echo: (socket: Socket) => Promise<void>,
): Promise<number[]> {
  const startedAt = performance.now();
  const times: number[] = [];
  // One at a time in each tunnel, as people type.
  const last: Promise<void>[] = typists.map(() => Promise.resolve());
  for (let count = 0; performance.now() - startedAt < ms; await delay(1)) {
    for (; count < ((performance.now() - startedAt) / 1000) * keystrokesPerSecond; count++) {
      const at = count % typists.length;
      const dueAt = performance.now();
      last[at] = typeAfter(last[at]!, async () => {
        await echo(typists[at]!);
        times.push(performance.now() - dueAt);
      });
    }
  }
  await Promise.all(last);
  return times;
}

async function typeAfter(last: Promise<void>, type: () => Promise<void>): Promise<void> {
  await last;
  await type();
}

function rssMibOf({ child }: BenchGateway): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) / 1024;
}
