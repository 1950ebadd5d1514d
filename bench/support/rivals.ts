import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { WebSocket, createWebSocketStream } from 'ws';
import { findProgram } from '../../test/e2e/support/needs.ts';
import { own } from '../../test/e2e/support/process.ts';
import type { Scratch } from '../../test/e2e/support/scratch.ts';
import { startSshd } from '../../test/e2e/support/sshd.ts';
import { answers, freePort } from './gateway.ts';
import { connectCounting } from './load.ts';
import { loadCore, measuredCore, pin, startPinned } from './processes.ts';
import type { Flow, Variant } from './variant.ts';

/** What starting a rival takes. */
export interface RivalPlan {
  readonly scratch: Scratch;
  readonly targetPort: number;
}

/** Something else that leads to the target. */
export interface Rival {
  readonly name: string;
  readonly debianPackage: string;
  /** The files without which it cannot be had. */
  readonly needs: readonly (string | undefined)[];
  /** Which version this is. */
  version(): string;
  start(plan: RivalPlan): Promise<Variant>;
}

const haproxy = findProgram('haproxy');
const nginx = findProgram('nginx');
const socat = findProgram('socat');
const websockify = findProgram('websockify');
const ssh = findProgram('ssh');
const sshd = findProgram('sshd');
const streamModule = '/usr/lib/nginx/modules/ngx_stream_module.so';

/** All of them. Each has one process, or one for each connection, and is as it is when nothing is set. */
export const rivals: readonly Rival[] = [
  haproxyVariant('HAProxy mode tcp', ''),
  haproxyVariant('HAProxy mode tcp, splice', 'option splice-auto'),
  {
    name: 'nginx stream',
    debianPackage: 'libnginx-mod-stream',
    needs: [nginx, streamModule],
    version: () => outputMatching([nginx!, '-v'], /nginx\/(\S+)/),
    start: async ({ scratch, targetPort }) => {
      const port = await freePort();
      const file = scratch.path('stream.conf');
      writeFileSync(
        file,
        `load_module ${streamModule}; worker_processes 1; daemon off; pid ${scratch.path('stream.pid')};
         error_log /dev/null; events {} stream { server { listen 127.0.0.1:${port}; proxy_pass 127.0.0.1:${targetPort}; } }`,
      );
      return tcpVariant('nginx stream', port, [nginx!, '-e', 'stderr', '-c', file]);
    },
  },
  {
    name: 'socat',
    debianPackage: 'socat',
    needs: [socat],
    version: () => outputMatching([socat!, '-V'], /socat version (\S+)/),
    start: async ({ targetPort }) => {
      const port = await freePort();
      const listen = `TCP4-LISTEN:${port},bind=127.0.0.1,reuseaddr,fork`;
      return tcpVariant('socat', port, [socat!, listen, `TCP4:127.0.0.1:${targetPort}`]);
    },
  },
  {
    // Debian's, in Python with numpy: the one of npm (0.7.1, of 2014) keeps no back-pressure.
    name: 'websockify',
    debianPackage: 'websockify',
    needs: [websockify],
    version: () => outputMatching(['dpkg-query', '-W', '-f', '${Version}', 'python3-websockify'], /(\S+)/),
    start: async ({ targetPort }) => {
      const port = await freePort();
      const addresses = [`127.0.0.1:${port}`, `127.0.0.1:${targetPort}`];
      const variant = await tcpVariant('websockify', port, [websockify!, ...addresses]);
      return {
        ...variant,
        open: async (take) => flow(await openWebSocket(`ws://127.0.0.1:${port}/`), take),
      };
    },
  },
  {
    name: 'ssh -J, sshd',
    debianPackage: 'openssh-server',
    needs: [ssh, sshd],
    version: () => outputMatching([ssh!, '-V'], /OpenSSH_([^\s,]+)/),
    start: startJump,
  },
];

/** The versions of those that are here. */
export function rivalVersions(): Readonly<Record<string, string>> {
  const here = rivals.filter((rival) => lacking(rival) === undefined);
  return Object.fromEntries(here.map((rival) => [rival.debianPackage, rival.version()]));
}

function haproxyVariant(name: string, option: string): Rival {
  return {
    name,
    debianPackage: 'haproxy',
    needs: [haproxy],
    version: () => outputMatching([haproxy!, '-v'], /version (\S+)/),
    start: async ({ scratch, targetPort }) => {
      const port = await freePort();
      const file = scratch.path(`haproxy-${port}.cfg`);
      writeFileSync(
        file,
        `global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  ${option}
listen way
  bind 127.0.0.1:${port}
  server target 127.0.0.1:${targetPort}
`,
      );
      return tcpVariant(name, port, [haproxy!, '-db', '-f', file]);
    },
  };
}

/** What `ssh -J` starts: an ssh that has the sshd in between connect to the target. */
async function startJump({ scratch, targetPort }: RivalPlan): Promise<Variant> {
  mkdirSync(scratch.path('jump'), { recursive: true });
  const server = await startSshd(scratch);
  pin(server.running.pid, measuredCore);
  const knownHosts = scratch.path('known-hosts');
  writeFileSync(knownHosts, `[127.0.0.1]:${server.port} ${server.hostKey}\n`);
  const options = ['BatchMode=yes', 'IdentitiesOnly=yes', `UserKnownHostsFile=${knownHosts}`];
  const argv = [
    ssh!,
    '-F',
    'none',
    '-i',
    server.identityFile,
    '-p',
    String(server.port),
    ...options.flatMap((option) => ['-o', option]),
    '-W',
    `127.0.0.1:${targetPort}`,
    `${server.user}@127.0.0.1`,
  ];
  return {
    what: 'ssh -J, sshd',
    isOurs: false,
    isWholePath: true,
    servers: { sshd: server.running.pid },
    open: (take) => openByProgram('ssh', argv, take),
    stop: () => server.running.stop(),
  };
}

/** A tunnel whose client is a program: what it reads and prints is the stream. */
export async function openByProgram(
  name: string,
  argv: readonly string[],
  take: (bytes: number) => void,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Flow> {
  const stdio: ['pipe', 'pipe', 'ignore'] = ['pipe', 'pipe', 'ignore'];
  const child = own(spawn('taskset', ['-c', String(loadCore), ...argv], { env, stdio }));
  child.stdin.on('error', () => {});
  child.stdout.on('data', ({ length }: Buffer) => take(length));
  return {
    stream: child.stdin,
    clients: { [name]: child.pid! },
    close: () => end(child, 1000),
  };
}

/** A variant that takes TCP as it comes. */
async function tcpVariant(what: string, port: number, argv: readonly string[]): Promise<Variant> {
  const child = startPinned(argv);
  await untilAnswers(what, port, child);
  return {
    what,
    isOurs: false,
    isWholePath: false,
    servers: { [what]: child.pid! },
    open: async (take) => {
      const socket = await connectCounting(port, take);
      return { stream: socket, clients: {}, close: async () => void socket.resetAndDestroy() };
    },
    stop: () => end(child, 1000),
  };
}

/** A flow through a stream that this process has itself. */
export function flow(stream: Duplex, take: (bytes: number) => void): Flow {
  stream.on('error', () => {}).on('data', ({ length }: Buffer) => take(length));
  return { stream, clients: {}, close: async () => void stream.destroy() };
}

async function openWebSocket(url: string): Promise<Duplex> {
  const webSocket = new WebSocket(url, ['binary'], { perMessageDeflate: false });
  const stream = createWebSocketStream(webSocket);
  await once(webSocket, 'open');
  return stream;
}

async function untilAnswers(what: string, port: number, child: ChildProcess): Promise<void> {
  let problem = '';
  child.stderr?.on('data', (chunk: Buffer) => (problem += chunk.toString()));
  const until = Date.now() + 30_000;
  while (!(await answers(port))) {
    if (child.exitCode !== null || Date.now() > until) throw new Error(`${what} did not start: ${problem}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Asks a program to end, and after that time makes it. */
export async function end(child: ChildProcess, patienceMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  await ended;
  clearTimeout(timer);
}

function outputMatching([program, ...args]: readonly string[], pattern: RegExp): string {
  const { stdout, stderr } = spawnSync(program!, args, { encoding: 'utf8' });
  return pattern.exec(`${stdout}${stderr}`)?.[1] ?? 'unknown';
}

/** Why a rival cannot be had; undefined when it can. */
export function lacking({ needs, debianPackage }: Rival): string | undefined {
  return needs.every((file) => file !== undefined && existsSync(file))
    ? undefined
    : `Debian's package ${debianPackage} is not installed`;
}
