import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Certificates } from './certificates.ts';
import { findProgram } from './needs.ts';
import type { Network } from './network.ts';
import { freePort, output, start, within } from './process.ts';
import type { Scratch } from './scratch.ts';
import type { Sshd } from './sshd.ts';

// A company's network: the client reaches its proxies and nothing else. `scratch.namespace` is that of the servers.

/** A proxy as the client names it. */
export interface CompanyProxy {
  /** As `host:port`. */
  readonly address: string;
  readonly port: number;
  /** What it has written down so far. */
  log(): string;
}

/** Files of /etc as the programs in a namespace see them, until the end of the test file. */
export function fakeEtc(scratch: Scratch, namespace: string, files: Readonly<Record<string, string>>): void {
  const directory = join('/etc/netns', namespace);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(directory, name, '..'), { recursive: true });
    writeFileSync(join(directory, name), text, { mode: name === 'shadow' ? 0o600 : 0o644 });
  }
  scratch.onEnd(() => rmSync(directory, { recursive: true, force: true }));
}

/** What the client can reach from now on. The gateway is at 443 as well for the servers. */
export interface Gates {
  readonly gatewayPort: number;
  /** Besides DNS. */
  readonly open: readonly number[];
  /** Packets to this port vanish; those to others are refused. */
  readonly silent: number;
}

export async function closeGates(network: Network, { gatewayPort, open, silent }: Gates): Promise<void> {
  const rules = `table inet company {
    chain in {
      type filter hook input priority 5;
      iifname cable udp dport 53 accept
      iifname cable ct state established,related accept
      iifname cable tcp dport { ${open.join(', ')} } accept
      iifname cable tcp dport ${silent} drop
      iifname cable reject
    }
  }
  table ip company-nat {
    chain out {
      type nat hook output priority -100;
      ip daddr ${network.address} tcp dport 443 dnat to ${network.address}:${gatewayPort}
    }
  }`;
  await output(within(network.servers, ['nft', '-f', '-']), { input: rules });
}

const isRoot = process.getuid?.() === 0;

/** Dante; with a password it lets in alice, who has to be in `shadow`. */
export async function startDante(
  scratch: Scratch,
  { address }: Network,
  hasPassword: boolean,
): Promise<CompanyProxy> {
  const port = await freePort();
  const file = scratch.path(`danted-${port}.conf`);
  writeFileSync(
    file,
    `logoutput: stdout
internal: ${address} port = ${port}
external: ${address}
clientmethod: none
socksmethod: ${hasPassword ? 'username' : 'none'}
user.privileged: root
user.unprivileged: nobody
client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 command: connect }
`,
  );
  const pid = scratch.path(`danted-${port}.pid`);
  const running = await start(scratch, [findProgram('danted')!, '-f', file, '-p', pid], { port });
  return { address: `${address}:${port}`, port, log: () => running.log() };
}

/** ssh as a SOCKS proxy. */
export async function startSshSocks(
  scratch: Scratch,
  { address }: Network,
  sshd: Sshd,
): Promise<CompanyProxy> {
  const port = await freePort();
  const options = [
    'StrictHostKeyChecking=no',
    'UserKnownHostsFile=/dev/null',
    'BatchMode=yes',
    'LogLevel=ERROR',
  ];
  const argv = [
    'ssh',
    '-F',
    '/dev/null',
    '-N',
    ...options.flatMap((option) => ['-o', option]),
    '-i',
    sshd.identityFile,
    '-p',
    String(sshd.port),
    '-D',
    `${address}:${port}`,
    `${sshd.user}@127.0.0.1`,
  ];
  const running = await start(scratch, argv, { port });
  return { address: `${address}:${port}`, port, log: () => running.log() };
}

export async function startTinyproxy(
  scratch: Scratch,
  { address }: Pick<Network, 'address'>,
  allowedPort: number,
): Promise<CompanyProxy> {
  const port = await freePort();
  const file = scratch.path(`tinyproxy-${port}.conf`);
  writeFileSync(
    file,
    `Port ${port}
Listen ${address}
Timeout 600
MaxClients 50
LogLevel Connect
ConnectPort ${allowedPort}
`,
  );
  const running = await start(scratch, [findProgram('tinyproxy')!, '-d', '-c', file], { port });
  return { address: `${address}:${port}`, port, log: () => running.log() };
}

/** A relay before a proxy that ends every connection at this age. */
export async function startLifetime(
  scratch: Scratch,
  proxy: CompanyProxy,
  seconds: number,
): Promise<CompanyProxy> {
  const port = await freePort();
  const [host] = proxy.address.split(':');
  const each = `timeout ${seconds} socat STDIO TCP4:${proxy.address}`.replaceAll(':', String.raw`\:`);
  const listening = `TCP4-LISTEN:${port},bind=${host},fork,reuseaddr`;
  const running = await start(scratch, [findProgram('socat')!, listening, `EXEC:${each}`], { port });
  return { address: `${host}:${port}`, port, log: () => running.log() };
}

/** As `needs`, for a squid that can read along: only one with OpenSSL makes up certificates. */
export function needsInspection(): { skip: string | false } {
  const { stdout } = spawnSync(findProgram('squid') ?? 'squid', ['-v'], { encoding: 'utf8' });
  if (stdout?.includes('--with-openssl')) return { skip: false };
  const message = 'this machine lacks squid-openssl';
  if (process.env['CI'] === 'true') throw new Error(message);
  process.stderr.write(`SKIPPED: ${message}\n`);
  return { skip: message };
}

/** What is special about a squid. */
export interface SquidPlan {
  readonly name: string;
  /** The only port that CONNECT is allowed to. */
  readonly allowedPort: number;
  /** More lines of its configuration. */
  readonly lines?: readonly string[];
  /** It reads along, and trusts the gateway's authority; in the certificates that it makes up it calls itself this. */
  readonly inspects?: { readonly as: string; readonly certificates: Certificates };
}

/** Starts squid; the authority of one that inspects is in `authority`. */
export async function startCompanySquid(
  scratch: Scratch,
  { address }: Network,
  plan: SquidPlan,
): Promise<CompanyProxy & { readonly authority: string }> {
  const port = await freePort();
  const directory = scratch.path(plan.name);
  mkdirSync(directory);
  const [authority, inspection] = plan.inspects
    ? await inspectionLines(directory, plan.inspects)
    : (['', []] as const);
  if (isRoot) await output(['chown', '-R', 'proxy', directory]);
  const file = scratch.path(`${plan.name}.conf`);
  writeFileSync(
    file,
    `http_port ${address}:${port}${plan.inspects ? ` ssl-bump generate-host-certificates=on cert=${directory}/authority.both` : ''}
pid_filename none
access_log stdio:${directory}/access.log
cache_log ${directory}/cache.log
cache deny all
coredump_dir ${directory}
shutdown_lifetime 0 seconds
acl allowed port ${plan.allowedPort}
${[...inspection, ...(plan.lines ?? [])].join('\n')}
http_access deny CONNECT !allowed
http_access allow all
`,
  );
  const logFile = join(directory, 'cache.log');
  await start(scratch, [findProgram('squid')!, '-N', '-f', file], { port, logFile });
  const log = (): string => readFileSync(join(directory, 'access.log'), 'utf8');
  return { address: `${address}:${port}`, port, authority, log };
}

async function inspectionLines(
  directory: string,
  { as, certificates }: NonNullable<SquidPlan['inspects']>,
): Promise<readonly [authority: string, lines: readonly string[]]> {
  const [certificate, key] = [join(directory, 'authority.pem'), join(directory, 'authority.key')];
  const request = `req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ${key} -out ${certificate}`.split(' ');
  const isAuthority = [
    '-addext',
    'basicConstraints=critical,CA:TRUE',
    '-addext',
    'keyUsage=critical,keyCertSign',
  ];
  await output(['openssl', ...request, '-subj', `/O=${as}`, ...isAuthority]);
  const authority = readFileSync(certificate, 'utf8');
  writeFileSync(join(directory, 'authority.both'), readFileSync(key, 'utf8') + authority, { mode: 0o644 });
  const helper = join(findProgram('squid')!, '../../lib/squid/security_file_certgen');
  const made = join(directory, 'made');
  await output([helper, '-c', '-s', made, '-M', '4MB']);
  const lines = [
    `sslcrtd_program ${helper} -s ${made} -M 4MB`,
    `tls_outgoing_options cafile=${certificates.authorityFile}`,
    'ssl_bump bump all',
    // As products that let WebSocket through inspected connections do.
    'http_upgrade_request_protocols websocket allow all',
    'sslcrtd_children 2 startup=1 idle=1',
  ];
  return [authority, lines];
}

/** A web server that has one file. */
export async function startPacServer(
  scratch: Scratch,
  { address }: Network,
  plan: { readonly script: string; readonly path?: string; readonly port?: number },
): Promise<CompanyProxy> {
  const port = plan.port ?? (await freePort());
  const directory = scratch.path(`pac-${port}`);
  mkdirSync(directory);
  writeFileSync(join(directory, plan.path ?? 'proxy.pac'), plan.script);
  const file = scratch.path(`pac-${port}.conf`);
  const log = join(directory, 'access.log');
  writeFileSync(
    file,
    `daemon off; ${isRoot ? 'user root;' : ''} error_log stderr warn; pid ${directory}/nginx.pid;
events { worker_connections 64; }
http {
  access_log ${log};
  types { application/x-ns-proxy-autoconfig pac dat; }
  server { listen ${address}:${port}; root ${directory}; }
}
`,
  );
  await start(scratch, [findProgram('nginx')!, '-e', 'stderr', '-c', file], { port });
  return { address: `${address}:${port}`, port, log: () => readFileSync(log, 'utf8') };
}
