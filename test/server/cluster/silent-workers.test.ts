import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { logs } from '../../e2e/support/generations.ts';
import { childrenOf, eventually, run } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { patient } from '../../support/slowness.ts';
import { startEcho } from '../support/gateway-parts.ts';
import { rawUpgrade } from '../support/peers.ts';

const scratch = openScratch();
const isLong = process.env['POSTERN_LONG'] === '1';

function open(gateway: Gateway): Promise<Socket> {
  const token = readFileSync(gateway.tokenFile, 'utf8').trim();
  const head = `CONNECT echo:22 HTTP/1.1\r\nHost: echo:22\r\nProxy-Authorization: Bearer ${token}\r\n\r\n`;
  return rawUpgrade(gateway.port, head);
}

async function assertEchoes(tunnel: Socket): Promise<void> {
  tunnel.write('still here?');
  assert.equal(String((await once(tunnel, 'data'))[0]), 'still here?');
}

async function admin(
  { adminPort }: Gateway,
  path: string,
): Promise<{ text: string; status: number; ms: number }> {
  const startedAt = performance.now();
  const response = await fetch(`http://127.0.0.1:${adminPort}${path}`, { headers: { connection: 'close' } });
  return { text: await response.text(), status: response.status, ms: performance.now() - startedAt };
}

/** Opens tunnels until each worker has one, and returns one of each, by the number of the worker. */
async function oneOfEach(gateway: Gateway): Promise<ReadonlyMap<number, Socket>> {
  const found = new Map<number, Socket>();
  for (let turn = 0; turn < 60 && found.size < 2; turn++) {
    const opened = (): string[] =>
      gateway.running
        .log()
        .split('\n')
        .filter((line) => line.includes('"tunnel opened"'));
    const before = opened().length;
    const tunnel = await open(gateway);
    await eventually(() => opened().length > before);
    const { worker } = JSON.parse(opened().at(-1)!) as { worker: number };
    if (found.has(worker)) tunnel.destroy();
    else found.set(worker, tunnel);
  }
  assert.equal(found.size, 2);
  return found;
}

async function pidOf(gateway: Gateway, worker: number): Promise<number> {
  const pids = await childrenOf(gateway.running.pid);
  const lines = gateway.running
    .log()
    .split('\n')
    .filter((line) => line.startsWith('{'));
  const records = lines.map((line) => JSON.parse(line) as { pid?: number; worker?: number });
  return pids.findLast((pid) => records.some((each) => each.pid === pid && each.worker === worker))!;
}

describe('a worker that hangs', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  before(async () => (echo = await startEcho()));
  after(() => echo.close());

  it('loses its callers to the others, and is taken back when it answers', async () => {
    const limits = { perSubject: 1000, perAddress: 1000, graceSeconds: 1 };
    const gateway = await startGateway(scratch, {
      targets: { echo: `127.0.0.1:${echo.port}` },
      settings: { workers: 2, limits },
    });
    await logs(gateway.running, 'listening');
    const tunnels = await oneOfEach(gateway);
    const stopped = await pidOf(gateway, 1);
    const figures = (await admin(gateway, '/metrics')).text;
    assert.match(figures, /^postern_workers_silent 0$/m);
    process.kill(stopped, 'SIGSTOP');
    try {
      // From the last answer, at once.
      const metrics = await admin(gateway, '/metrics');
      assert.ok(metrics.ms < patient(500) + 100, `${metrics.ms}`);
      assert.match(metrics.text, /^postern_tunnels_active\{entry="connect"\} 2$/m);
      await eventually(async () => (await admin(gateway, '/readyz')).status === 503, 'not ready', 60_000);
      const ready = await admin(gateway, '/readyz');
      assert.ok(ready.ms < patient(500), `${ready.ms}`);
      assert.match(ready.text, /^worker 1 has not answered for \d+ s$/m);
      // Callers that wait in its socket are served once it is known.
      const waiting = Array.from({ length: 16 }, () => open(gateway));
      const sessions = await run([...gatewayCommand, 'sessions', '--config', gateway.configFile]);
      assert.equal(sessions.code, 1);
      assert.match(String(sessions.stderr), new RegExp(`worker 1 \\(pid ${stopped}\\) did not answer`));
      await logs(gateway.running, 'a worker does not answer');
      for (const tunnel of await Promise.all(waiting)) {
        await assertEchoes(tunnel);
        tunnel.destroy();
      }
      assert.match((await admin(gateway, '/metrics')).text, /^postern_workers_silent 1$/m);
      for (const tunnel of await Promise.all(Array.from({ length: 16 }, () => open(gateway)))) {
        await assertEchoes(tunnel);
        tunnel.destroy();
      }
      const killed = await run([
        ...gatewayCommand,
        'kill',
        '--target',
        'nowhere',
        '--config',
        gateway.configFile,
      ]);
      assert.match(String(killed.stderr), new RegExp(`worker 1 \\(pid ${stopped}\\)`));
    } finally {
      process.kill(stopped, 'SIGCONT');
    }
    await logs(gateway.running, 'a worker answers again');
    await eventually(async () => (await admin(gateway, '/readyz')).status === 200);
    await assertEchoes(tunnels.get(1)!);
    await assertEchoes(tunnels.get(2)!);
    // It accepts again.
    for (const tunnel of (await oneOfEach(gateway)).values()) tunnel.destroy();
    for (const tunnel of tunnels.values()) tunnel.destroy();
    assert.doesNotMatch(gateway.running.log(), /worker replaced/);

    if (isLong) {
      const [one, other] = await childrenOf(gateway.running.pid);
      for (const pid of [one!, other!]) process.kill(pid, 'SIGSTOP');
      // One after the other.
      await eventually(() => gateway.running.log().match(/worker replaced/g)?.length === 2, 'both', 180_000);
      await eventually(async () => (await admin(gateway, '/readyz')).status === 200);
      for (const tunnel of (await oneOfEach(gateway)).values()) tunnel.destroy();
      // A supervisor that hangs: its workers go on, and it blames none of them afterwards.
      process.kill(gateway.running.pid, 'SIGSTOP');
      for (const tunnel of (await oneOfEach(gateway)).values()) tunnel.destroy();
      await new Promise((resolve) => setTimeout(resolve, 35_000));
      process.kill(gateway.running.pid, 'SIGCONT');
      await eventually(async () => (await admin(gateway, '/readyz')).status === 200);
      assert.equal(gateway.running.log().match(/a worker does not answer/g)?.length, 3);
    }
    await gateway.running.stop();
  });
});
