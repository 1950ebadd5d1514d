import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { calculateJwkThumbprint } from 'jose';
import { quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { startGateway } from './support/gateway.ts';
import type { BenchGateway } from './support/gateway.ts';
import { cpuSecondsOf, onLoadCore } from './support/processes.ts';
import { openRaw, echoByte, rawEntries } from './support/raw-tunnels.ts';
import type { RawRequest } from './support/raw-tunnels.ts';
import { jws, token } from './support/tokens.ts';

const atOnce = 48;
const proofKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
/** What is asked of a storm that lasts. */
const stormPerSecond = 1500;

type OpensRow = Row<'opened' | 'perSecond' | 'p99Ms' | 'failed' | 'gatewayCpuMsPerOpen' | 'loadBusy'>;

/** How many tunnels a gateway opens when each is authenticated and audited, and carries a byte there and back. */
export const opens = {
  name: 'opens',
  title: 'authenticated opens, durable audit, one byte each way',
  columns: {
    opened: ['opened', 0],
    perSecond: ['per second', 0],
    p99Ms: ['p99 ms', 1],
    failed: ['failed', 0],
    gatewayCpuMsPerOpen: ['gateway CPU ms each', 3],
    // Near 100: it is the core of the load generator that is measured.
    loadBusy: ['client load, % of a core', 0],
  },
  measure: (effort: Effort) => onLoadCore(() => run(effort)),
} as const satisfies Figure<keyof OpensRow['values']>;

type OpenTunnelOnce = () => RawRequest;

async function run({ quick, folder }: Effort): Promise<readonly OpensRow[]> {
  const [measureMs, rounds, proofs, storm] = quick ? [1200, 1, 6000, 5000] : [6000, 3, 40_000, 10_000];
  const target = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes) => void socket.write(bytes));
  });
  target.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
  await once(target, 'listening');
  const gateway = await startGateway(folder, (target.address() as AddressInfo).port, 'gateway', {
    limits: { perSubject: 20_000, perAddress: 20_000, tunnels: 20_000 },
  });
  try {
    const variants = await askings(gateway, { proofs, others: storm });
    // The first ones are for the compiler: what a gateway does that has just started is another figure.
    for (const openOnce of Object.values(variants))
      await measure({ what: 'first', gateway, openOnce }, (each) => keepOpening(each, 1500));
    const results: Record<string, OpensRow[]> = {};
    // Interleaved, so that what else the machine does falls on all.
    for (let round = 0; round < rounds; round++) {
      for (const [what, openOnce] of Object.entries(variants))
        (results[what] ??= []).push(
          await measure({ what, gateway, openOnce }, (each) => keepOpening(each, measureMs)),
        );
    }
    const rows = Object.values(results).map(
      (each) =>
        each.toSorted((a, b) => a.values.perSecond - b.values.perSecond)[Math.floor(each.length / 2)]!,
    );
    const openOnce = variants[otherTokens]!;
    const paced = quick ? stormPerSecond : storm;
    return [
      ...rows,
      await measure({ what: `storm: ${paced} at ${stormPerSecond}/s`, gateway, openOnce }, (each) =>
        openPaced(each, paced),
      ),
      await measure({ what: `storm: ${storm} at once`, gateway, openOnce }, (each) =>
        openAtOnce(each, storm),
      ),
    ];
  } finally {
    gateway.child.kill('SIGKILL');
    target.close();
  }
}

const otherTokens = 'ES256 token, a new one each time';

/** What is asked, all of it signed beforehand: what is measured is the gateway. */
async function askings(
  { port }: BenchGateway,
  count: { readonly proofs: number; readonly others: number },
): Promise<Record<string, OpenTunnelOnce>> {
  const bound = await calculateJwkThumbprint(proofKey.publicKey.export({ format: 'jwk' }));
  const bearer = token({});
  const dpop = token({ cnf: { jkt: bound } });
  const others = Array.from({ length: count.others }, (_, number) => token({ sub: `bench-${number}` }));
  const proofs = Array.from({ length: count.proofs }, () => proof(dpop, port));
  let at = 0;
  return {
    [otherTokens]: () => rawEntries.connect(port, `Bearer ${others[at++ % others.length]!}`),
    'ES256 token, always the same': () => rawEntries.connect(port, `Bearer ${bearer}`),
    // A CONNECT has no URL for a proof to be about.
    'ES256 token and DPoP proof (connect-tcp)': () =>
      rawEntries['connect-tcp'](port, `DPoP ${dpop}\r\nDPoP: ${proofs.pop()}`),
  };
}

type Open = () => Promise<void>;

async function measure(
  {
    what,
    gateway,
    openOnce,
  }: { readonly what: string; readonly gateway: BenchGateway; readonly openOnce: OpenTunnelOnce },
  load: (open: Open) => Promise<void>,
): Promise<OpensRow> {
  const times: number[] = [];
  let failed = 0;
  const open = (): Promise<void> => {
    const startedAt = performance.now();
    const opened = openOnce();
    return carryByte(gateway.port, opened).then(
      () => void times.push(performance.now() - startedAt),
      (error: unknown) => {
        if (failed++ === 0) console.error(`${what}: ${String(error)}`);
      },
    );
  };
  const gatewayBefore = cpuSecondsOf(gateway.child.pid!);
  const loadBefore = process.cpuUsage();
  const startedAt = performance.now();
  await load(open);
  const ms = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(loadBefore);
  // Whatever the last ones leave to be written and closed.
  await delay(200);
  const values = {
    opened: times.length,
    perSecond: (times.length * 1000) / ms,
    p99Ms: quantile(times, 0.99),
    failed,
    gatewayCpuMsPerOpen: (1000 * (cpuSecondsOf(gateway.child.pid!) - gatewayBefore)) / times.length,
    loadBusy: (user + system) / 10 / ms,
  };
  return { what, values };
}

/** As fast as they are answered, some at a time. */
async function keepOpening(open: Open, measureMs: number): Promise<void> {
  const until = performance.now() + measureMs;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (performance.now() < until) await open();
    }),
  );
}

/** When their time has come, however long those before them take. */
async function openPaced(open: Open, count: number): Promise<void> {
  const startedAt = performance.now();
  const all: Promise<void>[] = [];
  while (all.length < count) {
    const due = ((performance.now() - startedAt) / 1000) * stormPerSecond;
    while (all.length < Math.min(due, count)) all.push(open());
    await delay(1);
  }
  await Promise.all(all);
}

async function openAtOnce(open: Open, count: number): Promise<void> {
  await Promise.all(Array.from({ length: count }, () => open()));
}

/** Opens a tunnel, has its target echo a byte, and resets it: no port is left waiting. */
async function carryByte(port: number, request: RawRequest): Promise<void> {
  const socket = await openRaw(port, request);
  await echoByte(socket, request);
  socket.resetAndDestroy();
}

function proof(accessToken: string, port: number): string {
  const ath = createHash('sha256').update(accessToken).digest('base64url');
  const htu = `http://127.0.0.1:${port}/ssh/tcp/box/22/`;
  const jwk = proofKey.publicKey.export({ format: 'jwk' });
  const claims = { jti: randomUUID(), htm: 'GET', htu, iat: Math.floor(Date.now() / 1000), ath };
  return jws({ alg: 'ES256', typ: 'dpop+jwt', jwk }, claims, proofKey.privateKey);
}
