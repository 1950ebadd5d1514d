import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { performance } from 'node:perf_hooks';
import { calculateJwkThumbprint } from 'jose';
import { quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { cpuMsOf, startGateway } from './support/gateway.ts';
import type { BenchGateway } from './support/gateway.ts';
import { jws, token } from './support/tokens.ts';

const atOnce = 48;
const proofKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });

type OpensRow = Row<'perSecond' | 'p99Ms' | 'gatewayCpuMsPerOpen'>;

/** How many tunnels a gateway opens when each has to show who asks. */
export const opens = {
  name: 'opens',
  title: 'authenticated opens (connect-tcp)',
  columns: {
    perSecond: ['per second', 0],
    p99Ms: ['p99 ms', 1],
    gatewayCpuMsPerOpen: ['gateway CPU ms each', 3],
  },
  measure: run,
} as const satisfies Figure<keyof OpensRow['values']>;

async function run({ quick, folder }: Effort): Promise<readonly OpensRow[]> {
  const [measureMs, rounds] = quick ? [3000, 1] : [8000, 3];
  const target = createServer((socket) => void socket.on('error', () => {}).resume());
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const gateway = await startGateway(folder, (target.address() as AddressInfo).port);
  try {
    const bound = await calculateJwkThumbprint(proofKey.publicKey.export({ format: 'jwk' }));
    const bearer = token({});
    const dpop = token({ cnf: { jkt: bound } });
    // Made beforehand: what is measured is the gateway.
    const proofs = Array.from({ length: quick ? 6000 : 40_000 }, () => proof(dpop, gateway.port));
    const ways: Record<string, () => string> = {
      'ES256 token': () => `Authorization: Bearer ${bearer}\r\n`,
      'ES256 token and DPoP proof': () => `Authorization: DPoP ${dpop}\r\nDPoP: ${proofs.pop()}\r\n`,
    };
    const results: Record<string, OpensRow[]> = {};
    // Interleaved, so that what else the machine does falls on both.
    for (let round = 0; round < rounds; round++) {
      for (const [what, fields] of Object.entries(ways))
        (results[what] ??= []).push(await measure({ what, gateway, fields, measureMs }));
    }
    return Object.values(results).map(
      (each) =>
        each.toSorted((a, b) => a.values.perSecond - b.values.perSecond)[Math.floor(each.length / 2)]!,
    );
  } finally {
    gateway.child.kill('SIGKILL');
    target.close();
  }
}

async function measure(round: {
  readonly what: string;
  readonly gateway: BenchGateway;
  readonly fields: () => string;
  readonly measureMs: number;
}): Promise<OpensRow> {
  const { what, gateway, fields, measureMs } = round;
  const times: number[] = [];
  const cpuBefore = cpuMsOf(gateway.child.pid!);
  const startedAt = performance.now();
  const until = startedAt + measureMs;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (performance.now() < until) times.push(await open(gateway.port, fields()));
    }),
  );
  const seconds = (performance.now() - startedAt) / 1000;
  const cpuMs = cpuMsOf(gateway.child.pid!) - cpuBefore;
  const values = {
    perSecond: times.length / seconds,
    p99Ms: quantile(times, 0.99),
    gatewayCpuMsPerOpen: cpuMs / times.length,
  };
  return { what, values };
}

/** Opens a tunnel, and resets it: no port is left waiting. Resolves to how long the 101 took. */
async function open(port: number, fields: string): Promise<number> {
  const startedAt = performance.now();
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(
    `GET /ssh/tcp/box/22/ HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\n${fields}\r\n`,
  );
  const [answer] = (await once(socket, 'data')) as [Buffer];
  socket.resetAndDestroy();
  if (!answer.subarray(0, 12).equals(Buffer.from('HTTP/1.1 101'))) throw new Error(answer.toString());
  return performance.now() - startedAt;
}

function proof(accessToken: string, port: number): string {
  const ath = createHash('sha256').update(accessToken).digest('base64url');
  const htu = `http://127.0.0.1:${port}/ssh/tcp/box/22/`;
  const jwk = proofKey.publicKey.export({ format: 'jwk' });
  const claims = { jti: randomUUID(), htm: 'GET', htu, iat: Math.floor(Date.now() / 1000), ath };
  return jws({ alg: 'ES256', typ: 'dpop+jwt', jwk }, claims, proofKey.privateKey);
}
