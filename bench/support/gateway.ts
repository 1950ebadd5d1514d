import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { own } from '../../test/e2e/support/process.ts';
import { measuredCore } from './processes.ts';
import { issuer, issuerKeys } from './tokens.ts';

/** The folder of the project. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** A gateway in a process of its own, at `/ssh/`. */
export interface BenchGateway {
  readonly port: number;
  readonly child: ChildProcess;
}

/** Options of a gateway. */
export interface GatewayOptions {
  /** Several in one folder need names. */
  readonly name?: string;
  /** Options of Node.js itself. */
  readonly nodeArguments?: readonly string[];
  /** The cores that it is allowed to use; absent: the core of what is measured. */
  readonly cores?: 'all';
}

/**
 * Starts a gateway that lets the group `dev` reach this port as `box`. The caller ends it. `settings` replace those that
 * are there for every figure.
 */
export async function startGateway(
  parent: string,
  targetPort: number,
  options: string | GatewayOptions = {},
  settings: object = {},
): Promise<BenchGateway> {
  const {
    name = 'gateway',
    nodeArguments = [],
    cores,
  }: GatewayOptions = typeof options === 'string' ? { name: options } : options;
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
  const pinned = cores === 'all' ? [] : ['taskset', '-c', String(measuredCore)];
  const argv = [...nodeArguments, 'server/main.ts', 'serve', '--config', config];
  const [program, ...more] = [...pinned, process.execPath, ...argv];
  const child = own(spawn(program!, more, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }));
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error('the gateway ended');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { port, child };
}

/** A loopback port on which no process listens. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** Whether a process listens on a loopback port. */
export function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
