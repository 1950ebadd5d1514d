import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { Certificates } from './certificates.ts';
import { packageDirectory } from './needs.ts';
import { freePort, start, type Environment, type Running } from './process.ts';
import type { Scratch } from './scratch.ts';

export interface Gateway {
  readonly port: number;
  readonly adminPort: number;
  readonly configFile: string;
  /** One JSON line for each record. */
  readonly auditFile: string;
  /** A file with a token for `tester` of the group `dev`, with access to every target of the configuration. */
  readonly tokenFile: string;
  readonly running: Running;
}

export interface GatewayOptions {
  /** Names → `host:port`, besides whatever else the test has. */
  readonly targets: Readonly<Record<string, string>>;
  /** The port of the public URL, where a front listens; absent: the gateway's own. */
  readonly publicPort?: number;
  /** The name in the public URL; absent: localhost. */
  readonly publicHost?: string;
  /** Where it listens; absent: on loopback. */
  readonly address?: string;
  /** The command that starts it, such as prlimit with its arguments. */
  readonly under?: readonly string[];
  /** The gateway is the edge itself. */
  readonly tls?: Certificates;
  /** More settings, in the words of postern.yaml. */
  readonly settings?: object;
  readonly env?: Environment;
}

/** Starts the real gateway on loopback ports, as a process of its own with a configuration file of its own. */
export async function startGateway(scratch: Scratch, options: GatewayOptions): Promise<Gateway> {
  const [port, adminPort] = [await freePort(), await freePort()];
  const name = `gateway-${port}`;
  const configFile = scratch.path(`${name}.yaml`);
  const auditFile = scratch.path(`${name}.audit.jsonl`);
  const names = Object.keys(options.targets);
  const settings = {
    listen: `${options.address ?? '127.0.0.1'}:${port}`,
    admin: `127.0.0.1:${adminPort}`,
    publicUrl: `https://${options.publicHost ?? 'localhost'}:${options.publicPort ?? port}/ssh/`,
    ...(options.tls && { tls: { certFile: options.tls.certificateFile, keyFile: options.tls.keyFile } }),
    trustedProxies: ['127.0.0.0/8'],
    keyFile: scratch.path(`${name}.key`),
    store: { file: scratch.path(`${name}.db`) },
    control: `unix:${scratch.path(`${name}.ctl`)}`,
    targets: Object.fromEntries(
      Object.entries(options.targets).map(([target, address]) => [target, { address }]),
    ),
    rules: [{ groups: ['dev'], targets: names.map((target) => `${target}:*`) }],
    network: { allow: ['127.0.0.1/32'] },
    audit: { file: auditFile, required: true },
    ...options.settings,
  };
  // JSON is YAML too.
  writeFileSync(configFile, JSON.stringify(settings, undefined, 2));
  const running = await start(
    scratch,
    [...(options.under ?? []), ...gatewayCommand, 'serve', '--config', configFile],
    {
      port,
      ...(options.env && { env: options.env }),
    },
  );
  const tokenFile = scratch.path(`${name}.token`);
  writeFileSync(tokenFile, await makeToken(configFile), { mode: 0o600 });
  return { port, adminPort, configFile, auditFile, tokenFile, running };
}

/** The gateway's own program, from the source tree. */
export const gatewayCommand: readonly string[] = [process.execPath, join(packageDirectory, 'server/main.ts')];

/** A token from the gateway's own key, for `tester` of the group `dev`: the command in this process, which is quicker. */
async function makeToken(configFile: string): Promise<string> {
  const { token } = await import('../../../server/commands/token.ts');
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const args = ['--config', configFile, '--subject', 'tester', '--group', 'dev'];
  const code = await token(args, { stdin, stdout, stderr, env: process.env });
  if (code !== 0) throw new Error(`no token: ${String(stderr.read())}`);
  return String(stdout.read());
}
