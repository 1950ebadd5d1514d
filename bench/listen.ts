import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { median, quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { root, startGateway } from './support/gateway.ts';
import { startTlsFront } from './support/tls-front.ts';
import { token } from './support/tokens.ts';

type ListenRow = Row<'medianMs' | 'p99Ms' | 'rssMiB'>;

const atOnce = 200;

/** Tunnels by one `postern listen`, and how long a ProxyCommand takes that uses it, or starts postern. */
export const listens = {
  name: 'listen',
  title: "postern listen, from the program's connect to the first byte of the target",
  columns: { medianMs: ['median ms', 1], p99Ms: ['p99 ms', 1], rssMiB: ['its RSS, MiB', 1] },
  measure: run,
} as const satisfies Figure<keyof ListenRow['values']>;

async function run({ quick, folder }: Effort): Promise<readonly ListenRow[]> {
  const target = createServer((socket) => void socket.on('error', () => {}).write('SSH-2.0-bench\r\n'));
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const gateway = await startGateway(folder, (target.address() as AddressInfo).port);
  const front = await startTlsFront(folder, gateway.port);
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, token({}), { mode: 0o600 });
  const rows: ListenRow[] = [];
  try {
    for (const [what, url, caFile] of [
      ['in the clear', `http://127.0.0.1:${gateway.port}/ssh/`, undefined],
      ['by TLS, with a CA file', `https://localhost:${front.port}/ssh/`, front.caFile],
    ] as const) {
      const home = join(folder, what);
      mkdirSync(home);
      const env = {
        HOME: home,
        PATH: process.env['PATH']!,
        POSTERN_GATEWAY: url,
        POSTERN_TOKEN_FILE: tokenFile,
        ...(caFile === undefined ? {} : { POSTERN_CA_FILE: caFile }),
      };
      rows.push(...(await measure(what, env, quick)));
    }
    return rows;
  } finally {
    gateway.child.kill('SIGKILL');
    front.close();
    target.close();
  }
}

async function measure(what: string, env: Record<string, string>, quick: boolean): Promise<ListenRow[]> {
  // The collector takes its time.
  const pauseMs = quick ? 500 : 3000;
  const { child, port } = await startListener(env);
  const sockets: Socket[] = [];
  const open = async (): Promise<number> => {
    const startedAt = performance.now();
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    sockets.push(socket);
    socket.write('CONNECT box:22 HTTP/1.0\r\n\r\n');
    let got = '';
    while (!got.includes('SSH-')) got += String((await once(socket, 'data'))[0]);
    return performance.now() - startedAt;
  };
  const row = (how: string, times: readonly number[]): ListenRow => ({
    what: `${how}, ${what}`,
    values: { medianMs: median(times), p99Ms: quantile(times, 0.99), rssMiB: rssMiBOf(child.pid!) },
  });
  try {
    await open();
    // As fast as ten programs that open one after the other.
    const inTurn: number[] = [];
    const some = async (): Promise<void> => {
      for (let at = 0; at < atOnce / 10; at++) inTurn.push(await open());
    };
    await Promise.all(Array.from({ length: 10 }, some));
    await delay(pauseMs);
    const rows = [row(`${atOnce} tunnels, opened 10 at a time`, inTurn)];
    for (const socket of sockets.splice(0)) socket.destroy();
    await delay(pauseMs);
    const times = await Promise.all(Array.from({ length: atOnce }, open));
    await delay(pauseMs);
    rows.push(row(`${atOnce} tunnels, opened at once`, times));
    for (const socket of sockets.splice(0)) socket.destroy();
    await delay(pauseMs);
    const commands = {
      'ProxyCommand nc': ['nc', '-X', 'connect', '-x', `127.0.0.1:${port}`, 'box', '22'],
      'ProxyCommand postern connect': [process.execPath, join(root, 'dist/postern.cjs'), 'connect', 'box'],
    };
    for (const [how, argv] of Object.entries(commands)) {
      const taken: number[] = [];
      for (let at = 0; at < (quick ? 5 : 40); at++) taken.push(await firstByte(argv, env));
      rows.push(row(how, taken));
    }
    return rows;
  } finally {
    for (const socket of sockets) socket.destroy();
    child.kill('SIGKILL');
  }
}

async function startListener(
  env: Record<string, string>,
): Promise<{ readonly child: ChildProcess; readonly port: number }> {
  const argv = [join(root, 'dist/postern.cjs'), 'listen', '--json', '--listen', '0'];
  const child = spawn(process.execPath, argv, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const { doors } = JSON.parse(line) as { readonly doors: readonly { readonly address: string }[] };
  return { child, port: Number(doors[0]!.address.split(':')[1]) };
}

async function firstByte(
  [command, ...args]: readonly string[],
  env: Record<string, string>,
): Promise<number> {
  const startedAt = performance.now();
  const child = spawn(command!, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  await once(child.stdout, 'data');
  const time = performance.now() - startedAt;
  child.kill('SIGKILL');
  await ended;
  return time;
}

/** The resident memory of a process (proc(5), VmRSS). */
function rssMiBOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}
