import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import type { Duplex, Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { createServer as createTlsServer } from 'node:tls';
import { certificate, key } from '../test/client/certificates.ts';
import { withTokenFile } from './connect.ts';
import { median } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { root, startGateway } from './support/gateway.ts';
import { startTlsFront } from './support/tls-front.ts';

type ClientRow = Row<'down' | 'downLeast' | 'downMost' | 'up' | 'upLeast' | 'upMost'>;

/** What the client spends on a byte, and what TLS and the standard streams alone spend. */
export const clientBulk = {
  name: 'client-bulk',
  title: 'bulk in the client, TLS included, CPU s per GiB',
  columns: {
    down: ['target to client', 3],
    downLeast: ['min', 3],
    downMost: ['max', 3],
    up: ['client to target', 3],
    upLeast: ['min', 3],
    upMost: ['max', 3],
  },
  measure: run,
} as const satisfies Figure<keyof ClientRow['values']>;

const gib = 1024 ** 3;
const chunk = Buffer.alloc(64 * 1024, 'x');
const directions = ['down', 'up'] as const;
type Direction = (typeof directions)[number];

/** A program that carries bytes, and where what it opens arrives. */
interface Layer {
  readonly command: (direction: Direction, bytes: number) => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly far: Server;
  /** It has no standard streams to carry, and says when it is done. */
  readonly isBare?: true;
}

type Child = ChildProcessByStdio<Writable, Readable, null>;

async function run({ quick, folder }: Effort): Promise<readonly ClientRow[]> {
  const [bytes, rounds] = quick ? [gib / 32, 1] : [gib / 2, 5];
  const target = await listening(createServer());
  const tls = await listening(createTlsServer({ key, cert: certificate, noDelay: true }));
  const gateway = await startGateway(folder, portOf(target));
  const front = await startTlsFront(folder, gateway.port);
  try {
    const env = {
      ...withTokenFile(folder),
      POSTERN_GATEWAY: `https://localhost:${front.port}/ssh/`,
      POSTERN_CA_FILE: front.caFile,
    };
    const layers = layersOf(folder, { tls, target, caFile: front.caFile, env });
    const samples = new Map<string, Record<Direction, number[]>>();
    for (let round = 0; round < rounds; round++) {
      for (const [what, layer] of Object.entries(layers)) {
        const each = samples.get(what) ?? { down: [], up: [] };
        samples.set(what, each);
        for (const direction of directions) each[direction].push(await measure(layer, direction, bytes));
      }
    }
    return [...samples].map(([what, { down, up }]) => ({
      what,
      values: {
        down: median(down),
        downLeast: Math.min(...down),
        downMost: Math.max(...down),
        up: median(up),
        upLeast: Math.min(...up),
        upMost: Math.max(...up),
      },
    }));
  } finally {
    gateway.child.kill('SIGKILL');
    front.close();
    for (const server of [tls, target]) server.close();
  }
}

function layersOf(
  folder: string,
  far: {
    readonly tls: Server;
    readonly target: Server;
    readonly caFile: string;
    readonly env: Readonly<Record<string, string>>;
  },
): Readonly<Record<string, Layer>> {
  const [bare, piped] = [join(folder, 'bare.cjs'), join(folder, 'piped.cjs')];
  writeFileSync(bare, bareScript);
  writeFileSync(piped, pipedScript);
  const port = String(portOf(far.tls));
  const client = [process.execPath, join(root, 'dist/postern.cjs'), 'connect', '--via'];
  const openssl = [
    'openssl',
    's_client',
    '-quiet',
    '-verify_quiet',
    '-connect',
    `localhost:${port}`,
    '-CAfile',
    far.caFile,
  ];
  const by = (entry: string): Layer => ({
    command: () => [...client, entry, 'box'],
    env: far.env,
    far: far.target,
  });
  return {
    'openssl s_client': { command: () => [...openssl, '-verify_return_error'], far: far.tls },
    'TLS of Node.js alone': {
      command: (direction, bytes) => [process.execPath, bare, port, far.caFile, direction, String(bytes)],
      far: far.tls,
      isBare: true,
    },
    'TLS of Node.js, piped': { command: () => [process.execPath, piped, port, far.caFile], far: far.tls },
    'postern connect, connect': by('connect'),
    'postern connect, connect-tcp': by('connect-tcp'),
    'postern connect, websocket': by('websocket'),
    'postern connect, relay': by('relay'),
    'postern connect, http': by('http'),
  };
}

const opening = `
const { readFileSync } = require('node:fs');
const [port, caFile, direction, bytes] = process.argv.slice(2);
const socket = require('node:tls').connect({ host: 'localhost', port, ca: readFileSync(caFile), noDelay: true });
`;

const bareScript = `${opening}
let left = Number(bytes);
const chunk = Buffer.alloc(64 * 1024, 'x');
const write = () => {
  while (left > 0) {
    left -= chunk.length;
    if (!socket.write(chunk)) return socket.once('drain', write);
  }
};
if (direction === 'up') socket.once('data', write);
else
  socket.on('data', (data) => {
    left -= data.length;
    if (left === 0) process.stdout.write('!');
  });
`;

const pipedScript = `${opening}
process.stdin.pipe(socket).pipe(process.stdout);
`;

/** What has to be over before bytes are counted: the start of the program. */
const pauseMs = 200;

async function measure(layer: Layer, direction: Direction, bytes: number): Promise<number> {
  const isTls = 'setSecureContext' in layer.far;
  const arrived = once(layer.far, isTls ? 'secureConnection' : 'connection') as Promise<[Duplex]>;
  const [command, ...args] = layer.command(direction, bytes);
  const child: Child = spawn(command!, args, {
    env: { PATH: process.env['PATH'], ...layer.env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  try {
    child.stdin.on('error', () => {});
    const failed = once(child, 'exit').then(() => Promise.reject(new Error(`${command} ended`)));
    const [far] = await Promise.race([arrived, failed]);
    failed.catch(() => {});
    far.on('error', () => {});
    await delay(pauseMs);
    const before = cpuSecondsOf(child.pid!);
    await Promise.race([carry(layer, { far, child }, { direction, bytes }), failed]);
    return ((cpuSecondsOf(child.pid!) - before) * gib) / bytes;
  } finally {
    child.kill('SIGKILL');
  }
}

async function carry(
  { isBare }: Layer,
  { far, child }: { readonly far: Duplex; readonly child: Child },
  { direction, bytes }: { readonly direction: Direction; readonly bytes: number },
): Promise<void> {
  const done = direction === 'up' ? counted(far, bytes) : counted(child.stdout, isBare === true ? 1 : bytes);
  if (direction === 'down') await pour(far, bytes);
  else if (isBare === true) far.write('!');
  else await pour(child.stdin, bytes);
  await done;
}

/** Resolves when that many have come. */
function counted(stream: Readable, bytes: number): Promise<void> {
  return new Promise((resolve) => {
    let left = bytes;
    stream.on('data', (data: Buffer) => {
      left -= data.length;
      if (left <= 0) resolve();
    });
  });
}

async function pour(stream: Writable, bytes: number): Promise<void> {
  for (let sent = 0; sent < bytes; sent += chunk.length) {
    if (!stream.write(chunk)) await once(stream, 'drain');
  }
}

/** Of all its threads so far, by the scheduler's own count, which is finer than that of `stat`. */
function cpuSecondsOf(pid: number): number {
  const nanoseconds = readdirSync(`/proc/${pid}/task`).map((thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
  );
  return nanoseconds.reduce((sum, each) => sum + each, 0) / 1e9;
}

async function listening<S extends Server>(server: S): Promise<S> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}
