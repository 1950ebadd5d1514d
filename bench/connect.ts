import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { makeProofKey } from '../client/oauth/dpop.ts';
import { signInDirectory, writeSignIn } from '../client/credentials/session-store.ts';
import { Secret } from '../protocol/secret.ts';
import { median, quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { root, startGateway } from './support/gateway.ts';
import { issuer, token } from './support/tokens.ts';

type ConnectRow = Row<'medianMs' | 'p90Ms'>;

/** How long `postern connect` takes, and what of it is the proof of a sign-in's key. */
export const connects = {
  name: 'connect',
  title: 'postern connect in the clear, from its start to the first byte of the target',
  columns: { medianMs: ['median ms', 1], p90Ms: ['p90 ms', 1] },
  measure: run,
} as const satisfies Figure<keyof ConnectRow['values']>;

async function run({ quick, folder }: Effort): Promise<readonly ConnectRow[]> {
  const target = createServer((socket) => void socket.on('error', () => {}).write('!'));
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const gateway = await startGateway(folder, (target.address() as AddressInfo).port);
  try {
    const url = new URL(`http://127.0.0.1:${gateway.port}/ssh/`);
    const variants = { file: withTokenFile(folder), signIn: withSignIn(folder, url) };
    const times = { file: [] as number[], signIn: [] as number[] };
    const connect = (env: Record<string, string>): Promise<number> =>
      firstByte({ ...env, POSTERN_GATEWAY: url.href, PATH: process.env['PATH']! });
    // Remembers which entry works, and warms the caches.
    for (const env of Object.values(variants)) for (let index = 0; index < 3; index++) await connect(env);
    for (let pair = 0; pair < (quick ? 15 : 100); pair++) {
      // In turns first, so that what the first leaves warm for the second falls on both.
      const order = pair % 2 === 0 ? (['file', 'signIn'] as const) : (['signIn', 'file'] as const);
      for (const variant of order) times[variant].push(await connect(variants[variant]));
    }
    const added = times.signIn.map((time, pair) => time - times.file[pair]!);
    return [
      row('with a token in a file', times.file),
      row('with a sign-in: its key and a proof', times.signIn),
      row('the difference, pair by pair', added),
    ];
  } finally {
    gateway.child.kill('SIGKILL');
    target.close();
  }
}

function row(what: string, times: readonly number[]): ConnectRow {
  return { what, values: { medianMs: median(times), p90Ms: quantile(times, 0.9) } };
}

/** The environment of a user with a token. */
export function withTokenFile(folder: string): Record<string, string> {
  const home = join(folder, 'file');
  const file = join(home, 'token');
  mkdirSync(home);
  writeFileSync(file, token({}), { mode: 0o600 });
  return { HOME: home, POSTERN_TOKEN_FILE: file };
}

/** The environment of a signed-in user; the sign-in outlasts the bench. */
function withSignIn(folder: string, gateway: URL): Record<string, string> {
  const home = join(folder, 'sign-in');
  const { key, privateJwk } = makeProofKey();
  const expiresAt = Date.now() + 3_600_000;
  const signIn = {
    gateway: gateway.href,
    issuer,
    clientId: 'postern',
    tokenEndpoint: new URL('oauth/token', gateway),
    accessToken: new Secret(token({ cnf: { jkt: key.thumbprint } })),
    refreshToken: new Secret('unused'),
    renewAt: expiresAt - 60_000,
    expiresAt,
    clockOffsetMs: 0,
    key,
  };
  writeSignIn(signInDirectory(join(home, '.local/state/postern'), gateway), signIn, privateJwk);
  return { HOME: home };
}

/** Runs the client as it is shipped, or another program; resolves to how long the first byte took. */
export async function firstByte(
  env: Readonly<Record<string, string | undefined>>,
  argv: readonly string[] = [join(root, 'dist/postern.cjs'), 'connect', 'box'],
): Promise<number> {
  const { child, byte, ended } = start(argv, env);
  const time = await byte;
  child.kill('SIGKILL');
  await ended;
  return time;
}

/** Starts a program of Node.js that writes something; `byte` is how long that took. The caller ends it. */
export function start(argv: readonly string[], env: Readonly<Record<string, string | undefined>>) {
  const startedAt = performance.now();
  const child = spawn(process.execPath, argv, {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let problem = '';
  child.stderr.on('data', (chunk: Buffer) => (problem += chunk.toString()));
  const ended = once(child, 'close');
  const byte = Promise.race([
    once(child.stdout, 'data').then(() => performance.now() - startedAt),
    ended.then(() => Promise.reject(new Error(`it ended: ${problem}`))),
  ]);
  return { child, byte, ended };
}
