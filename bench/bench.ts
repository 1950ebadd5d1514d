// `npm run bench`: figures, side by side, on this machine. Each row is a table line; the last line is the run as JSON.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { calculateJwkThumbprint } from 'jose';

const root = fileURLToPath(new URL('..', import.meta.url));
const quick = process.argv.includes('--quick');
const measureMs = quick ? 3000 : 8000;
const rounds = quick ? 1 : 3;
const atOnce = 48;
const issuer = 'https://id.example';

interface Row {
  readonly what: string;
  readonly perSecond: number;
  readonly p99Ms: number;
  readonly gatewayCpuMsPerOpen: number;
}

const folder = mkdtempSync(join(tmpdir(), 'postern-bench-'));
const issuerKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const proofKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });

try {
  const rows = await run();
  console.log(
    ['authenticated opens (connect-tcp)', 'per second', 'p99 ms', 'gateway CPU ms each'].join('\t'),
  );
  for (const row of rows) {
    console.log(
      [row.what, row.perSecond.toFixed(0), row.p99Ms.toFixed(1), row.gatewayCpuMsPerOpen.toFixed(3)].join(
        '\t',
      ),
    );
  }
  console.log(
    JSON.stringify({ at: new Date().toISOString(), node: process.version, cpu: cpus()[0]?.model, rows }),
  );
} finally {
  rmSync(folder, { recursive: true });
}

async function run(): Promise<Row[]> {
  const target = createServer((socket) => void socket.on('error', () => {}).resume());
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const gateway = await startGateway((target.address() as AddressInfo).port);
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
    const results: Record<string, Row[]> = {};
    // Interleaved, so that what else the machine does falls on both.
    for (let round = 0; round < rounds; round++) {
      for (const [what, fields] of Object.entries(ways))
        (results[what] ??= []).push(await measure(what, gateway, fields));
    }
    return Object.values(results).map(
      (each) => each.toSorted((a, b) => a.perSecond - b.perSecond)[Math.floor(each.length / 2)]!,
    );
  } finally {
    gateway.child.kill('SIGKILL');
    target.close();
  }
}

async function measure(
  what: string,
  gateway: { port: number; child: ChildProcess },
  fields: () => string,
): Promise<Row> {
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
  times.sort((a, b) => a - b);
  return {
    what,
    perSecond: times.length / seconds,
    p99Ms: times[Math.floor(times.length * 0.99)]!,
    gatewayCpuMsPerOpen: cpuMs / times.length,
  };
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

async function startGateway(targetPort: number): Promise<{ port: number; child: ChildProcess }> {
  const port = await freePort();
  const [jwks, config] = [join(folder, 'jwks.json'), join(folder, 'postern.yaml')];
  writeFileSync(
    jwks,
    JSON.stringify({ keys: [{ ...issuerKey.publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'ES256' }] }),
  );
  writeFileSync(
    config,
    JSON.stringify({
      listen: `127.0.0.1:${port}`,
      admin: `127.0.0.1:${await freePort()}`,
      control: `unix:${join(folder, 'control.sock')}`,
      store: { file: join(folder, 'postern.db') },
      keyFile: join(folder, 'key.json'),
      audit: { file: join(folder, 'audit.jsonl') },
      publicUrl: `http://127.0.0.1:${port}/ssh/`,
      issuers: [{ issuer, audience: 'postern', jwksFile: jwks, algorithms: ['ES256'] }],
      targets: { box: { address: `127.0.0.1:${targetPort}` } },
      rules: [{ groups: ['dev'], targets: ['box'] }],
      network: { allow: ['127.0.0.1/32'] },
      limits: { perSubject: 8000, perAddress: 8000 },
      log: { level: 'error' },
    }),
  );
  // One core for the gateway, the rest for what asks it.
  const child = spawn(
    'taskset',
    ['-c', '0', process.execPath, 'server/main.ts', 'serve', '--config', config],
    {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  );
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error('the gateway ended');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { port, child };
}

function token(claims: object): string {
  const now = Math.floor(Date.now() / 1000);
  const base = {
    iss: issuer,
    aud: 'postern',
    sub: 'bench',
    groups: ['dev'],
    iat: now,
    exp: now + 3600,
    jti: randomUUID(),
  };
  return jws({ alg: 'ES256', typ: 'at+jwt', kid: 'k' }, { ...base, ...claims }, issuerKey.privateKey);
}

function proof(accessToken: string, port: number): string {
  const ath = createHash('sha256').update(accessToken).digest('base64url');
  const htu = `http://127.0.0.1:${port}/ssh/tcp/box/22/`;
  const jwk = proofKey.publicKey.export({ format: 'jwk' });
  const claims = { jti: randomUUID(), htm: 'GET', htu, iat: Math.floor(Date.now() / 1000), ath };
  return jws({ alg: 'ES256', typ: 'dpop+jwt', jwk }, claims, proofKey.privateKey);
}

function jws(header: object, payload: object, key: KeyObject): string {
  const text = [header, payload]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${text}.${sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

/** User and system time of a process so far (proc(5), fields 14 and 15, in hundredths of a second). */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
