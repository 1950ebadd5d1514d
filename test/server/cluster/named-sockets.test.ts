import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess, StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { describe, it } from 'node:test';
import { gatewayCommand } from '../../e2e/support/gateway.ts';
import { findProgram, needs } from '../../e2e/support/needs.ts';
import { eventually, freePort, own } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';

const scratch = openScratch();

/** A listening socket that a child can be passed. */
interface Passed {
  readonly port: number;
  readonly fd: number;
  /** Leaves it to the child. */
  release(): void;
}

async function openSocket(): Promise<Passed> {
  const server: Server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  return { port: (server.address() as AddressInfo).port, fd, release: () => void server.close() };
}

async function writeConfig(name: string, workers: number): Promise<string> {
  const file = scratch.path(`${name}.yaml`);
  const settings = {
    // Nothing listens there: the sockets are passed.
    listen: '127.0.0.1:1',
    publicUrl: 'http://localhost/ssh/',
    admin: `127.0.0.1:${await freePort()}`,
    workers,
    audit: { file: scratch.path(`${name}.jsonl`) },
    store: { file: scratch.path(`${name}.db`) },
    control: `unix:${scratch.path(`${name}.ctl`)}`,
    keyFile: scratch.path(`${name}.key`),
  };
  writeFileSync(file, JSON.stringify(settings));
  return file;
}

interface Started {
  readonly child: ChildProcess;
  /** The numbers of the processes that have listened, the oldest first. */
  listening(): readonly number[];
}

function launch(argv: readonly string[], stdio: StdioOptions, env: NodeJS.ProcessEnv = {}): Started {
  const child = own(spawn(argv[0]!, argv.slice(1), { stdio, env: { ...process.env, ...env } }));
  let log = '';
  child.stdout!.on('data', (chunk: Buffer) => (log += String(chunk)));
  const listening = (): readonly number[] =>
    log
      .split('\n')
      .filter((line) => line.includes('"msg":"listening"'))
      .map((line) => (JSON.parse(line) as { pid: number }).pid);
  scratch.onEnd(() => {
    for (const pid of [child.pid!, ...listening()]) if (isThere(pid)) process.kill(pid, 'SIGKILL');
  });
  return { child, listening };
}

async function listened(started: Started, count: number): Promise<number> {
  await eventually(() => started.listening().length >= count, `process ${count}`, 60_000);
  return started.listening()[count - 1]!;
}

async function statusAt(port: number): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/ssh/`, { headers: { connection: 'close' } });
  await response.arrayBuffer();
  return response.status;
}

/** Whether a request fails because nothing listens. */
async function isRefused(port: number): Promise<boolean> {
  return statusAt(port).then(
    () => false,
    ({ cause }: { cause?: { code?: string } }) => cause?.code === 'ECONNREFUSED',
  );
}

function isThere(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

async function stop(pid: number): Promise<void> {
  process.kill(pid, 'SIGTERM');
  await eventually(() => !isThere(pid), `the end of ${pid}`, 60_000);
}

describe('named sockets', () => {
  for (const workers of [1, 2]) {
    it(`are served by their names, by ${workers === 1 ? 'one process' : 'workers'} and by a successor`, async () => {
      const [other, one, two] = await Promise.all([openSocket(), openSocket(), openSocket()]);
      const config = await writeConfig(`named-${workers}`, workers);
      const script = 'LISTEN_FDS=3 LISTEN_FDNAMES=raw:http:http LISTEN_PID=$$ exec "$@"';
      const gateway = launch(
        ['sh', '-c', script, 'sh', ...gatewayCommand, 'serve', '--config', config],
        ['ignore', 'pipe', 'inherit', other.fd, one.fd, two.fd],
      );
      const pid = await listened(gateway, 1);
      for (const socket of [other, one, two]) socket.release();
      for (const { port } of [one, two]) assert.equal(await statusAt(port), 200);

      // Whichever process accepts them, no connection is refused; a process that ends can cut off a request.
      const over = new AbortController();
      const refusals = (async () => {
        let count = 0;
        do for (const { port } of [one, two]) if (await isRefused(port)) count++;
        while (!over.signal.aborted);
        return count;
      })();
      process.kill(pid, 'SIGUSR2');
      const successor = await listened(gateway, 2);
      await eventually(() => !isThere(pid), 'the end of the first process', 60_000);
      over.abort();
      assert.equal(await refusals, 0);
      for (const { port } of [one, two]) assert.equal(await statusAt(port), 200);
      const environment = readFileSync(`/proc/${successor}/environ`, 'utf8').split('\0');
      assert.ok(environment.includes('POSTERN_LISTEN_FDNAMES=http:http'));
      await stop(successor);
    });
  }

  it('may be one without a name, from a process of an older version', async () => {
    const socket = await openSocket();
    const config = await writeConfig('unnamed', 1);
    const gateway = launch(
      [...gatewayCommand, 'serve', '--config', config],
      ['ignore', 'pipe', 'inherit', socket.fd],
      { POSTERN_PREDECESSOR: String(process.pid) },
    );
    const pid = await listened(gateway, 1);
    socket.release();
    assert.equal(await statusAt(socket.port), 200);
    await stop(pid);
  });

  it('may come from systemd', needs('systemd-socket-activate'), async () => {
    const ports = [await freePort(), await freePort()] as const;
    const config = await writeConfig('activated', 2);
    const listen = ports.flatMap((port) => ['-l', `127.0.0.1:${port}`]);
    const activate = [findProgram('systemd-socket-activate')!, ...listen, '--fdname=raw:http'];
    const gateway = launch(
      [...activate, ...gatewayCommand, 'serve', '--config', config],
      ['ignore', 'pipe', 'ignore'],
    );
    // It starts the program with the first connection.
    let status = 0;
    await eventually(
      async () => (status = await statusAt(ports[1]).catch(() => 0)) !== 0,
      'an answer',
      60_000,
    );
    assert.equal(status, 200);
    await stop(await listened(gateway, 1));
  });
});
