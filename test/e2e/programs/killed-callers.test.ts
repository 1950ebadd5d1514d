import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { pipeline } from 'node:stream';
import { before, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { isThere } from '../../../client/os/process-identity.ts';
import { gatewayDouble } from '../../client/entry/gateway-double.ts';
import { startGatewayProcess } from '../../client/login/gateway.ts';
import { Home } from '../../client/login/home.ts';
import { listen, temporaryDirectory } from '../../client/support.ts';
import { startFaultProxy } from '../../support/fault-proxy.ts';
import type { FaultProxy } from '../../support/fault-proxy.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { eventually, own } from '../support/process.ts';
import { openScratch } from '../support/scratch.ts';
import { box, clientCommand, prepareSsh } from '../support/ssh.ts';
import { startSshd } from '../support/sshd.ts';
import type { Sshd } from '../support/sshd.ts';

/*
 * A caller that is killed with SIGKILL can tell nothing to its `postern connect`, which has to notice by itself: in every
 * state, also where there is nothing to write and no network.
 */

/** A gateway in front of the sshd, and the network before it, which can be cut. */
interface Place {
  readonly network: FaultProxy;
  readonly home: string;
  /** Resolves when the gateway has opened a tunnel. */
  readonly opened: Promise<void>;
  readonly carried: () => number;
}

interface Caller {
  readonly child: ChildProcess;
  /** The process number of its `postern connect`. */
  readonly client: number;
}

const scratch = openScratch();
let sshd: Sshd;

async function openPlace(t: TestContext): Promise<Place> {
  const opened = Promise.withResolvers<void>();
  let carried = 0;
  const gateway = gatewayDouble((tunnel) => {
    const target = connect(sshd.port, '127.0.0.1');
    // With its connection, the command of a session ends too.
    t.after(() => target.destroy());
    opened.resolve();
    for (const stream of [tunnel, target]) stream.on('data', (chunk: Buffer) => (carried += chunk.length));
    pipeline(tunnel, target, tunnel, () => {});
  });
  const network = await startFaultProxy(await listen(t, gateway));
  t.after(() => network.close());
  return { network, home: temporaryDirectory(t), opened: opened.promise, carried: () => carried };
}

/** The client as a shell command that leaves its process number in `pidFile`. */
function recorded(pidFile: string, ...args: readonly string[]): string {
  return `sh -c 'echo $$ >${pidFile}; exec ${clientCommand('connect', ...args).join(' ')}'`;
}

async function started(t: TestContext, child: ChildProcess, pidFile: string): Promise<Caller> {
  const text = (): string => (existsSync(pidFile) ? readFileSync(pidFile, 'utf8') : '');
  await eventually(() => text().endsWith('\n'), 'the process number of the client');
  const client = Number(text());
  t.after(() => {
    child.kill('SIGKILL');
    if (isThere(client)) process.kill(client, 'SIGKILL');
  });
  return { child, client };
}

/** The real ssh, with pipes to its ProxyCommand. */
function startSsh(t: TestContext, { network, home }: Place, args: readonly string[]): Promise<Caller> {
  const pidFile = `${home}/pid`;
  const gateway = `--gateway=http://127.0.0.1:${network.port}/ssh/`;
  const { configFile, env } = prepareSsh(scratch, {
    sshd,
    name: `ssh-${network.port}`,
    proxyCommand: recorded(pidFile, gateway, '%h', '%p'),
    env: { HOME: home, XDG_STATE_HOME: `${home}/state`, POSTERN_TOKEN: 't0ken' },
  });
  const child = own(
    spawn('ssh', ['-F', configFile, ...args], {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'ignore'],
    }),
  );
  child.stdin.on('error', () => {});
  child.stdout.resume();
  return started(t, child, pidFile);
}

/** A caller that gives its child socket pairs, as programs on Node.js and some others do; and one for both directions. */
function startBySockets(t: TestContext, { network, home }: Place, isOnePair: boolean): Promise<Caller> {
  const pidFile = `${home}/pid`;
  const gateway = `--gateway=http://127.0.0.1:${network.port}/ssh/`;
  const pairs = 'a, b = socket.socketpair(); c, d = (a, b) if ONE else socket.socketpair()';
  const code = `import socket, subprocess, sys, time
${pairs.replace('ONE', isOnePair ? 'True' : 'False')}
subprocess.Popen(sys.argv[1], shell=True, stdin=b, stdout=d)
b.close(); d.close()
time.sleep(600)`;
  const child = own(
    spawn('python3', ['-c', code, recorded(pidFile, gateway, box)], {
      env: { HOME: home, PATH: process.env['PATH'], POSTERN_TOKEN: 't0ken' },
      stdio: 'ignore',
    }),
  );
  return started(t, child, pidFile);
}

/** Whether the process runs. One that has ended can stay in the list of processes until it is collected. */
function runs(pid: number): boolean {
  const stat = `/proc/${pid}/stat`;
  if (!existsSync('/proc/self/stat')) return isThere(pid);
  try {
    return !/^[ZX]/.test(readFileSync(stat, 'latin1').split(') ').at(-1)!);
  } catch {
    return false;
  }
}

async function endsAfterKillOf({ child, client }: Caller, t: TestContext): Promise<void> {
  assert.ok(runs(client), 'the client has ended before its caller');
  const startedAt = performance.now();
  child.kill('SIGKILL');
  await eventually(() => !runs(client), 'the end of the client', 6000);
  t.diagnostic(`gone ${Math.round(performance.now() - startedAt)} ms after its caller`);
}

interface State {
  readonly state: string;
  /** The arguments of ssh, which has an input and an output. */
  readonly args: readonly string[];
  readonly before?: (place: Place) => void;
  readonly reach: (place: Place, caller: Caller) => Promise<unknown>;
}

const mebibyte = 1024 * 1024;
const idle = [box, 'echo ready; exec cat'];
const download = [box, 'exec cat /dev/zero'];
const upload = [box, 'exec cat >/dev/null'];

function cut({ network }: Place, how: 'reset' | 'silence'): void {
  network.isUp = false;
  network.cut(how);
}

function untilReady({ child }: Caller): Promise<unknown> {
  return new Promise((resolve) => child.stdout!.once('data', resolve));
}

async function untilCarried(place: Place, mebibytes: number): Promise<void> {
  await eventually(() => place.carried() > mebibytes * mebibyte, 'the transfer');
}

/** Sends without end, at the pace of ssh. */
function fill({ child }: Caller): void {
  createReadStream('/dev/zero').pipe(child.stdin!);
}

const states: readonly State[] = [
  {
    state: 'while it opens its tunnel',
    args: idle,
    before: ({ network }) => network.cutAfter(0, 'silence'),
    reach: ({ network }) => eventually(() => network.count > 0, 'a connection'),
  },
  { state: 'while it is open and idle', args: idle, reach: (_, caller) => untilReady(caller) },
  { state: 'while it receives', args: download, reach: (place) => untilCarried(place, 4) },
  {
    state: 'while it sends',
    args: upload,
    reach(place, caller) {
      fill(caller);
      return untilCarried(place, 4);
    },
  },
  {
    state: 'while it is idle and its connection is dead without a sign',
    args: idle,
    async reach(place, caller) {
      await untilReady(caller);
      cut(place, 'silence');
    },
  },
  {
    state: 'while it has no connection',
    args: idle,
    async reach(place, caller) {
      await untilReady(caller);
      cut(place, 'reset');
    },
  },
  {
    state: 'while it has no connection and more to send than it keeps',
    args: upload,
    async reach(place, caller) {
      fill(caller);
      await untilCarried(place, 2);
      cut(place, 'reset');
      await eventually(() => caller.child.stdin!.writableNeedDrain, 'a full input');
    },
  },
  {
    state: 'as the master of shared connections',
    args: ['-M', '-o', 'ControlPersist=no', ...idle],
    async reach(place, caller) {
      await untilReady(caller);
      cut(place, 'reset');
    },
  },
];

const lacking = needs(clientBundle, 'ssh', 'sshd', 'ssh-keygen', 'python3', 'script');

describe('postern connect, when its caller is killed', { ...lacking, concurrency: 3 }, () => {
  before(async () => (sshd = await startSshd(scratch)));

  for (const { state, args, before: prepare, reach } of states) {
    it(`ends ${state}`, async (t) => {
      const place = await openPlace(t);
      prepare?.(place);
      const own = args[0] === '-M' ? ['-S', `${place.home}/master`, ...args] : args;
      const caller = await startSsh(t, place, own);
      await reach(place, caller);
      await endsAfterKillOf(caller, t);
    });
  }

  for (const isOnePair of [false, true]) {
    it(`ends without a connection when it has ${isOnePair ? 'one socket' : 'two sockets'} to its caller`, async (t) => {
      const place = await openPlace(t);
      const caller = await startBySockets(t, place, isOnePair);
      await place.opened;
      cut(place, 'reset');
      await endsAfterKillOf(caller, t);
    });
  }

  it('goes on when only its input has ended', async (t) => {
    const place = await openPlace(t);
    const { child } = await startSsh(t, place, [box, 'cat; sleep 3; echo late']);
    const chunks: Buffer[] = [];
    child.stdout!.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stdin!.end();
    await new Promise((resolve) => child.once('close', resolve));
    assert.equal(Buffer.concat(chunks).toString(), 'late\n');
  });
});

describe('postern connect that signs in, when its caller is killed', lacking, () => {
  it('ends, and so do those that wait for it', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url, { BROWSER: '' });
    const callers = [];
    for (const name of ['first', 'second']) {
      const pidFile = `${home.path}/${name}`;
      const ssh = `ssh -F none -o 'ProxyCommand sh -c "echo \\$\\$ >${pidFile}; exec ${home.postern.join(' ')} connect box"' box`;
      const child = own(
        // A terminal whose shell stays: with it, everything would get a SIGHUP.
        spawn('script', ['-qefc', `${ssh} & echo $! >${pidFile}.ssh; wait; sleep 120`, '/dev/null'], {
          env: { ...home.env, SHELL: '/bin/sh' },
          stdio: ['pipe', 'pipe', 'pipe'],
        }),
      );
      const shown = new Promise((resolve) =>
        child.stdout.on('data', (text) => /http:/.test(String(text)) && resolve(0)),
      );
      const caller = await started(t, child, pidFile);
      await shown;
      callers.push({ ...caller, ssh: Number(readFileSync(`${pidFile}.ssh`, 'utf8')) });
    }
    const [holder, waiting] = callers as [(typeof callers)[0], (typeof callers)[0]];
    for (const { ssh, client } of [waiting, holder]) {
      assert.ok(runs(client));
      process.kill(ssh, 'SIGKILL');
      await eventually(() => !runs(client), 'the end of the client', 6000);
    }
    assert.ok(!existsSync(`${home.directory(gateway.url)}/sign-in.lock`));
  });
});
