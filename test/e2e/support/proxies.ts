import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { exampleValues, fillIn } from '../../../server/commands/fill-in.ts';
import type { Certificates } from './certificates.ts';
import { findProgram, packageDirectory } from './needs.ts';
import {
  childrenOf,
  eventually,
  freePort,
  output,
  run,
  start,
  type Environment,
  type Running,
} from './process.ts';
import type { Scratch } from './scratch.ts';

/** The programs that stand in front of the gateway, and where each file we ship for them is. */
export const fronts = {
  nginx: { file: 'nginx.conf.example', start: startNginx, reload: reloadBy('SIGHUP') },
  haproxy: { file: 'deploy/haproxy.cfg', start: startHaproxy, reload: reloadHaproxy },
  apache: { file: 'deploy/apache.conf', start: startApache, reload: reloadBy('SIGUSR1') },
  caddy: { file: 'deploy/Caddyfile', start: startCaddy, reload: reloadCaddy },
} as const;

export type FrontName = keyof typeof fronts;

/** Where a front listens, and the server that it forwards to. */
export interface FrontPlan {
  readonly certificates: Certificates;
  /** The loopback port for TLS. */
  readonly port: number;
  /** The loopback port of the gateway. */
  readonly upstreamPort: number;
  /** A loopback port without TLS for the clients of the CONNECT entry that have none (HAProxy). */
  readonly plainPort?: number;
  /** Where it listens instead of 127.0.0.1. */
  readonly address?: string;
  /** Changes a line of the file that we ship. */
  readonly replacing?: readonly [text: string | RegExp, replacement: string];
}

/** A front that can be stopped, and started again at the same place. */
export interface Front {
  /** Of its first process. */
  pid(): number;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Kills all of its processes. */
  kill(): Promise<void>;
  /** Has it read its configuration again, as its administrator would. */
  reload(): Promise<void>;
}

/** Starts the program as `startFront` does. */
export async function openFront(scratch: Scratch, name: FrontName, plan: FrontPlan): Promise<Front> {
  let running = await startFront(scratch, name, plan);
  return {
    pid: () => running.pid,
    async start() {
      running = await startFront(scratch, name, plan);
    },
    stop: () => running.stop(),
    kill: () => killAll(running),
    async reload() {
      running = await fronts[name].reload(scratch, plan, running);
    },
  };
}

/** Kills a program and its children. */
export async function killAll(running: Running): Promise<void> {
  const children = await childrenOf(running.pid);
  running.signal('SIGKILL');
  for (const child of children) process.kill(child, 'SIGKILL');
  await running.ended;
}

/** Starts the program with the very file that we ship, filled in with the ports and certificates of the plan. */
export function startFront(scratch: Scratch, name: FrontName, plan: FrontPlan): Promise<Running> {
  const original = readFileSync(join(packageDirectory, fronts[name].file), 'utf8');
  const file = scratch.path(`${name}.shipped`);
  const upstream = `127.0.0.1:${plan.upstreamPort}`;
  const { certificates, address = '127.0.0.1', replacing } = plan;
  const shipped = replacing === undefined ? original : original.replace(...replacing);
  if (replacing !== undefined && shipped === original) throw new Error(`nothing to replace in ${name}`);
  writeFileSync(
    file,
    fillIn(shipped, {
      ...exampleValues,
      publicUrl: `https://localhost:${plan.port}/ssh/`,
      host: 'localhost',
      port: String(plan.port),
      listen4: `${address}:${plan.port}`,
      listen6: `${secondLoopback}:${plan.port}`,
      upstream,
      upstreamUrl: `http://${upstream}`,
      certificateFile: name === 'haproxy' ? certificates.combinedFile : certificates.certificateFile,
      keyFile: certificates.keyFile,
    }),
  );
  return fronts[name].start(scratch, file, plan);
}

/** Stands for `[::]`, of which a machine without IPv6 knows nothing. */
const secondLoopback = Object.values(networkInterfaces()).some((all) =>
  all?.some((one) => one.address === '::1'),
)
  ? '[::1]'
  : '127.0.0.2';

const isRoot = process.getuid?.() === 0;

function startNginx(scratch: Scratch, shipped: string, { port }: FrontPlan): Promise<Running> {
  const main = scratch.path('nginx.conf');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${scratch.path('nginx-temp')};`,
  );
  writeFileSync(
    main,
    `${isRoot ? 'user root;' : ''} daemon off; worker_processes 1; error_log stderr warn; pid ${scratch.path('nginx.pid')};
     events { worker_connections 1024; }
     http { access_log ${scratch.path('nginx.access.log')}; ${temporary.join(' ')} include ${shipped}; }`,
  );
  return start(scratch, [findProgram('nginx')!, '-e', 'stderr', '-c', main], { port });
}

/** A reload after which the old children keep their connections; resolves when there are new children. */
function reloadBy(signal: NodeJS.Signals) {
  return async (_scratch: Scratch, _plan: FrontPlan, running: Running): Promise<Running> => {
    const before = new Set(await childrenOf(running.pid));
    running.signal(signal);
    await eventually(async () => (await childrenOf(running.pid)).some((pid) => !before.has(pid)));
    return running;
  };
}

function startHaproxy(
  scratch: Scratch,
  shipped: string,
  { port, plainPort, replaces }: FrontPlan & { readonly replaces?: Running },
): Promise<Running> {
  const files = ['-f', shipped];
  if (plainPort !== undefined) {
    const plain = scratch.path('haproxy.plain');
    writeFileSync(plain, `frontend plain\n  bind 127.0.0.1:${plainPort}\n  default_backend postern\n`);
    files.push('-f', plain);
  }
  // `-sf`: the old process keeps its connections, and leaves when the last has ended.
  const old = replaces === undefined ? [] : ['-sf', String(replaces.pid)];
  return start(scratch, [findProgram('haproxy')!, '-db', ...files, ...old], { port });
}

async function reloadHaproxy(scratch: Scratch, plan: FrontPlan, replaces: Running): Promise<Running> {
  const running = await startHaproxy(scratch, scratch.path('haproxy.shipped'), { ...plan, replaces });
  await eventually(async () => {
    const { stdout } = await run(['ss', '-Hlntp', `sport = :${plan.port}`]);
    return stdout.includes(`pid=${running.pid},`) && !stdout.includes(`pid=${replaces.pid},`);
  });
  return running;
}

function startApache(scratch: Scratch, shipped: string, { port }: FrontPlan): Promise<Running> {
  const modules = ['mpm_event', 'authz_core', 'ssl', 'headers', 'proxy', 'proxy_http', 'reqtimeout'];
  const main = scratch.path('apache.main');
  writeFileSync(
    main,
    `ServerRoot ${scratch.directory}
ServerName localhost
DefaultRuntimeDir ${scratch.directory}
PidFile ${scratch.path('apache.pid')}
ErrorLog ${scratch.path('apache.log')}
Listen 127.0.0.1:${port}
${modules.map((name) => `LoadModule ${name}_module ${apacheModules}/mod_${name}.so`).join('\n')}
${isRoot ? 'User www-data\nGroup www-data' : ''}
ThreadsPerChild 64
MaxRequestWorkers 128
Include ${shipped}
`,
  );
  const argv = [findProgram('apache2')!, '-D', 'FOREGROUND', '-f', main];
  return start(scratch, argv, { port, logFile: scratch.path('apache.log') });
}

const apacheModules = '/usr/lib/apache2/modules';

function startCaddy(scratch: Scratch, shipped: string, { port }: FrontPlan): Promise<Running> {
  const main = scratch.path('Caddyfile');
  writeFileSync(
    main,
    `{
	admin unix/${scratch.path('caddy.admin')}
	auto_https disable_redirects
	default_bind 127.0.0.1
}
import ${shipped}
`,
  );
  const argv = [findProgram('caddy')!, 'run', '--config', main, '--adapter', 'caddyfile'];
  return start(scratch, argv, {
    port,
    env: {
      HOME: scratch.directory,
      XDG_DATA_HOME: scratch.path('caddy'),
      XDG_CONFIG_HOME: scratch.path('caddy'),
    },
  });
}

async function reloadCaddy(scratch: Scratch, _plan: FrontPlan, running: Running): Promise<Running> {
  const [file, address] = [scratch.path('Caddyfile'), `unix/${scratch.path('caddy.admin')}`];
  const argv = ['reload', '--force', '--config', file, '--adapter', 'caddyfile', '--address', address];
  await output([findProgram('caddy')!, ...argv]);
  return running;
}

/** A corporate proxy: squid that wants a password and allows CONNECT to one port only. */
export interface CorporateProxy {
  /** With the user and the password in it. */
  readonly url: string;
  readonly urlWithoutPassword: string;
  start(): Promise<void>;
  /** Kills all of its processes. */
  kill(): Promise<void>;
  /** Its access log: one line for each request. */
  accessLog(): string;
}

/** What is not as usual with a squid. */
export interface SquidPlan {
  /** Distinguishes its files from those of others of the test file. */
  readonly name?: string;
  /** Where it listens instead of 127.0.0.1. */
  readonly address?: string;
  /** Lines of its configuration for the sign-in; none lets every client through. */
  readonly signIn?: readonly string[];
  readonly env?: Environment;
}

/** Starts squid; to it, gw.example is 127.0.0.1. It wants a password by Basic where nothing else is said. */
export async function startSquid(
  scratch: Scratch,
  allowedPort: number,
  plan: SquidPlan = {},
): Promise<CorporateProxy> {
  const { name = 'squid', address = '127.0.0.1', env = {} } = plan;
  const port = await freePort();
  const [hosts, logs] = [scratch.path(`${name}.hosts`), scratch.path(name)];
  const signIn = plan.signIn ?? (await basicSignIn(scratch));
  writeFileSync(hosts, '127.0.0.1 gw.example\n', { mode: 0o644 });
  mkdirSync(logs);
  if (isRoot) await output(['chown', 'proxy', logs]);
  const main = scratch.path(`${name}.conf`);
  writeFileSync(
    main,
    `http_port ${address}:${port}
pid_filename none
hosts_file ${hosts}
access_log stdio:${join(logs, 'access.log')}
cache_log ${join(logs, 'cache.log')}
cache deny all
coredump_dir ${logs}
shutdown_lifetime 0 seconds
${signIn.join('\n')}
acl known ${signIn.length === 0 ? 'src all' : 'proxy_auth REQUIRED'}
acl tls_port port ${allowedPort}
http_access deny !CONNECT
http_access deny CONNECT !tls_port
http_access allow known
http_access deny all
`,
  );
  const launch = (): Promise<Running> =>
    start(scratch, [findProgram('squid')!, '-N', '-f', main], { port, env });
  let running = await launch();
  return {
    url: `http://alice:correct%20horse@${address}:${port}`,
    urlWithoutPassword: `http://${address}:${port}`,
    async start() {
      running = await launch();
    },
    kill: () => killAll(running),
    accessLog: () => readFileSync(join(logs, 'access.log'), 'utf8'),
  };
}

/** Lets alice in by Basic, with the password `correct horse`. */
export async function basicSignIn(scratch: Scratch): Promise<readonly string[]> {
  const passwords = scratch.path('squid.passwords');
  const hash = (await output(['openssl', 'passwd', '-apr1', 'correct horse'])).toString().trim();
  writeFileSync(passwords, `alice:${hash}\n`, { mode: 0o644 });
  return [
    `auth_param basic program /usr/lib/squid/basic_ncsa_auth ${passwords}`,
    'auth_param basic realm corporate',
  ];
}
