import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { issuer, issuerKeys } from './tokens.ts';

/** The folder of the project. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** A gateway in a process of its own, at `/ssh/`. */
export interface BenchGateway {
  readonly port: number;
  readonly child: ChildProcess;
}

/**
 * Starts a gateway that lets the group `dev` reach this port as `box`. Several in one folder need names. The caller
 * ends it. `settings` replace those that are there for every figure.
 */
export async function startGateway(
  parent: string,
  targetPort: number,
  name = 'gateway',
  settings: object = {},
): Promise<BenchGateway> {
  const port = await freePort();
  const folder = join(parent, name);
  mkdirSync(folder);
  const [jwks, config] = [join(folder, 'jwks.json'), join(folder, 'postern.yaml')];
  writeFileSync(jwks, JSON.stringify(issuerKeys()));
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
      ...settings,
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

/** User and system time of a process so far (proc(5), fields 14 and 15, in hundredths of a second). */
export function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** A port of loopback that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** Whether somebody listens on a port of loopback. */
export function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
