import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { median, quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { freePort, startGateway } from './support/gateway.ts';
import { cpuSecondsOf, onLoadCore } from './support/processes.ts';
import { openRawRelay, resumeRawRelay } from './support/raw-relay.ts';
import type { RawRelayTunnel } from './support/raw-relay.ts';
import { token } from './support/tokens.ts';
import type { TypistOrder } from './support/typist.ts';

type ComebackRow = Row<
  'lagP99Ms' | 'lagMaxMs' | 'keyP99Ms' | 'keyMaxMs' | 'medianMs' | 'allMs' | 'failed' | 'gatewayCpuMsEach'
>;

/** What clients that all come back in the same moment, or all open a tunnel, mean for a person who types beside them. */
export const comebacks = {
  name: 'comeback',
  title: 'all clients at once, beside a person who types',
  columns: {
    lagP99Ms: ['lag of the loop, p99 ms', 1],
    lagMaxMs: ['max ms', 1],
    keyP99Ms: ['keystroke p99 ms', 1],
    keyMaxMs: ['max ms', 1],
    medianMs: ['served, median ms', 0],
    allMs: ['all, ms', 0],
    failed: ['failed', 0],
    gatewayCpuMsEach: ['gateway CPU ms each', 3],
  },
  measure: (effort: Effort) => onLoadCore(() => run(effort)),
} as const satisfies Figure<keyof ComebackRow['values']>;

/** How many tunnels are opened at a time where that is not what is measured. */
const atATime = 50;
/** The gateway has noticed by then that its clients are gone. */
const awayMs = 1500;

async function run({ quick, folder, profiles }: Effort): Promise<readonly ComebackRow[]> {
  const count = quick ? 1500 : 3000;
  const typist = new Worker(new URL('support/typist.ts', import.meta.url));
  const tell = (order: TypistOrder): void => typist.postMessage(order, []);
  const [targetPort] = (await once(typist, 'message')) as [number];
  const adminPort = await freePort();
  const nodeArguments =
    profiles === undefined
      ? []
      : ['--cpu-prof', `--cpu-prof-dir=${profiles}`, '--cpu-prof-name=comeback.cpuprofile'];
  const gateway = await startGateway(
    folder,
    targetPort,
    { nodeArguments },
    {
      admin: `127.0.0.1:${adminPort}`,
      limits: { perSubject: 20_000, perAddress: 20_000, tunnels: 20_000 },
    },
  );
  const credentials = Array.from({ length: count }, (_, at) => `Bearer ${token({ sub: `bench-${at}` })}`);
  const lag = (): Promise<{ readonly p99: number; readonly max: number }> => readLag(adminPort);
  const typed = async (): Promise<readonly number[]> => {
    tell({ kind: 'typed' });
    return ((await once(typist, 'message')) as [readonly number[]])[0];
  };

  /** Runs all of these at once. */
  async function measure(what: string, tasks: readonly (() => Promise<void>)[]): Promise<ComebackRow> {
    await Promise.all([lag(), typed()]);
    const cpuBefore = cpuSecondsOf(gateway.child.pid!);
    const startedAt = performance.now();
    const times: number[] = [];
    let failed = 0;
    await Promise.all(
      tasks.map((task) =>
        task().then(
          () => void times.push(performance.now() - startedAt),
          (error: unknown) => {
            if (failed++ === 0) console.error(`${what}: ${String(error)}`);
          },
        ),
      ),
    );
    const cpuMs = 1000 * (cpuSecondsOf(gateway.child.pid!) - cpuBefore);
    const keys = await typed();
    const { p99, max } = await lag();
    return {
      what: `${tasks.length} ${what}`,
      values: {
        lagP99Ms: p99,
        lagMaxMs: max,
        keyP99Ms: quantile(keys, 0.99),
        keyMaxMs: Math.max(...keys),
        medianMs: median(times),
        allMs: Math.max(...times),
        failed,
        gatewayCpuMsEach: cpuMs / tasks.length,
      },
    };
  }

  const tunnels: RawRelayTunnel[] = [];
  try {
    tell({ kind: 'open', port: gateway.port, credentials: `Bearer ${token({})}` });
    await once(typist, 'message');
    for (let at = 0; at < count; at += atATime)
      tunnels.push(
        ...(await Promise.all(
          credentials.slice(at, at + atATime).map((each) => openRawRelay(gateway.port, each)),
        )),
      );
    const rows: ComebackRow[] = [];
    for (const round of quick ? [1] : [1, 2, 3]) {
      for (const { socket } of tunnels) socket.resetAndDestroy();
      await delay(awayMs);
      rows.push(
        await measure(
          `come back (${round})`,
          tunnels.map((tunnel) => () => resumeRawRelay(gateway.port, tunnel)),
        ),
      );
    }
    for (const { socket } of tunnels) socket.resetAndDestroy();
    await delay(awayMs);
    const opened = credentials.map((each) => async () => {
      tunnels.push(await openRawRelay(gateway.port, each));
    });
    rows.push(await measure('open a tunnel', opened));
    return rows;
  } finally {
    for (const { socket } of tunnels) socket.destroy();
    if (profiles === undefined) gateway.child.kill('SIGKILL');
    else {
      gateway.child.kill('SIGTERM');
      gateway.child.kill('SIGTERM');
      await Promise.race([once(gateway.child, 'exit'), delay(20_000)]);
    }
    await typist.terminate();
  }
}

/** The lag of the gateway's event loop since it was read last, in milliseconds. */
async function readLag(adminPort: number): Promise<{ readonly p99: number; readonly max: number }> {
  const text = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
  const read = (name: string): number =>
    1000 * Number(new RegExp(`^nodejs_eventloop_lag_${name}_seconds (\\S+)`, 'm').exec(text)?.[1]);
  return { p99: read('p99'), max: read('max') };
}
