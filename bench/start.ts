import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { firstByte, start, withTokenFile } from './connect.ts';
import { median, quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { root, startGateway } from './support/gateway.ts';
import { startTlsFront } from './support/tls-front.ts';

type StartRow = Row<'medianMs' | 'p90Ms' | 'startMs' | keyof Memory>;

/** How long `postern connect` takes by TLS, what of it is its start, and the memory that it holds while both sides are silent. */
export const starts = {
  name: 'start',
  title: 'postern connect by TLS, from its start to the first byte of the target',
  columns: {
    medianMs: ['median ms', 1],
    p90Ms: ['p90 ms', 1],
    startMs: ['until it connects, ms', 1],
    pssMiB: ['idle PSS MiB', 1],
    ownMiB: ['of which its own', 1],
    rssMiB: ['idle RSS MiB', 1],
  },
  measure: run,
} as const satisfies Figure<keyof StartRow['values']>;

/** What is started. */
interface Program {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

interface Sample {
  readonly firstByteMs: number;
  readonly startMs: number;
}

async function run({ quick, folder }: Effort): Promise<readonly StartRow[]> {
  const target = createServer((socket) => void socket.on('error', () => {}).write('!'));
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const gateway = await startGateway(folder, (target.address() as AddressInfo).port);
  let arrivedAt: number | undefined;
  const front = await startTlsFront(folder, gateway.port, () => (arrivedAt = performance.now()));
  try {
    const programs = programsOf(folder, {
      url: `https://localhost:${front.port}/ssh/`,
      caFile: front.caFile,
    });
    const samples = new Map<string, Sample[]>(Object.keys(programs).map((what) => [what, []]));
    const sample = async ({ argv, env }: Program): Promise<Sample> => {
      arrivedAt = undefined;
      const startedAt = performance.now();
      const firstByteMs = await firstByte(env, argv);
      // Node.js alone makes no connection.
      return { firstByteMs, startMs: arrivedAt === undefined ? firstByteMs : arrivedAt - startedAt };
    };
    // Remembers what works, and warms the caches.
    for (const each of Object.values(programs)) for (let index = 0; index < 3; index++) await sample(each);
    for (let round = 0; round < (quick ? 12 : 60); round++) {
      // In turns first, so that what the one before leaves warm falls on all of them.
      const order = round % 2 === 0 ? Object.entries(programs) : Object.entries(programs).toReversed();
      for (const [what, program] of order) samples.get(what)!.push(await sample(program));
    }
    const memory = await Promise.all(Object.values(programs).map(idle));
    return Object.keys(programs).map((what, at) => row(what, samples.get(what)!, memory[at]!));
  } finally {
    gateway.child.kill('SIGKILL');
    front.close();
    target.close();
  }
}

function programsOf(
  folder: string,
  gateway: { readonly url: string; readonly caFile: string },
): Readonly<Record<string, Program>> {
  const alone = join(folder, 'alone.cjs');
  writeFileSync(alone, "require('node:fs').writeSync(1, '!');\nsetInterval(() => {}, 1e9);\n");
  const argv = [join(root, 'dist/postern.cjs'), 'connect', 'box'];
  const env = { POSTERN_GATEWAY: gateway.url, POSTERN_CA_FILE: gateway.caFile };
  return {
    'postern connect': { argv, env: { ...withTokenFile(folder), ...env } },
    'Node.js alone, until its first byte': { argv: [alone], env: {} },
  };
}

interface Memory {
  readonly pssMiB: number;
  readonly ownMiB: number;
  readonly rssMiB: number;
}

function row(what: string, samples: readonly Sample[], memory: Memory): StartRow {
  const times = samples.map(({ firstByteMs }) => firstByteMs);
  const startMs = median(samples.map((sample) => sample.startMs));
  return { what, values: { medianMs: median(times), p90Ms: quantile(times, 0.9), startMs, ...memory } };
}

/** Long enough for the work that is put off until nothing else is to be done. */
const settledMs = 2500;

/** What a program holds that has had its first byte and waits; what it shares with other Node.js counts in part in PSS. */
async function idle({ argv, env }: Program): Promise<Memory> {
  const { child, byte, ended } = start(argv, env);
  await byte;
  await new Promise((resolve) => setTimeout(resolve, settledMs));
  const rollup = readFileSync(`/proc/${child.pid}/smaps_rollup`, 'utf8');
  child.kill('SIGKILL');
  await ended;
  const mebibytes = (name: string): number =>
    Number(new RegExp(`^${name}: +([0-9]+) kB$`, 'm').exec(rollup)![1]) / 1024;
  return {
    pssMiB: mebibytes('Pss'),
    ownMiB: mebibytes('Private_Clean') + mebibytes('Private_Dirty'),
    rssMiB: mebibytes('Rss'),
  };
}
