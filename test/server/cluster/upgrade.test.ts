import { Agent, get } from 'node:http';
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { logs, startNext } from '../../e2e/support/generations.ts';
import { eventually } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { startEcho } from '../support/gateway-parts.ts';

const scratch = openScratch();

async function admin({ adminPort }: Gateway, path: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${adminPort}${path}`, { headers: { connection: 'close' } });
  return response.text();
}

describe('the outcome of an upgrade', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  before(async () => (echo = await startEcho()));
  after(() => echo.close());

  it('is in the log of the old process, and the generation in /readyz and /metrics', async () => {
    const gateway = await startGateway(scratch, { targets: { echo: `127.0.0.1:${echo.port}` } });
    assert.equal(await admin(gateway, '/readyz'), 'ready\ngeneration 1\n');
    assert.match(await admin(gateway, '/metrics'), /^postern_build_info\{.*generation="1"\} 1$/m);

    const good = readFileSync(gateway.configFile, 'utf8');
    writeFileSync(gateway.configFile, '{ this is not a configuration');
    gateway.running.signal('SIGUSR2');
    await eventually(() => gateway.running.log().includes('the upgrade has failed, this process goes on'));
    assert.equal(await admin(gateway, '/readyz'), 'ready\ngeneration 1\n');

    writeFileSync(gateway.configFile, good);
    gateway.running.signal('SIGUSR2');
    await logs(gateway.running, 'the upgrade has succeeded: the next process has taken over');
    await eventually(async () => (await admin(gateway, '/readyz')) === 'ready\ngeneration 2\n');
    assert.match(await admin(gateway, '/metrics'), /^postern_build_info\{.*generation="2"\} 1$/m);

    // A process that was started beside it counts on.
    const last = await startNext(scratch, gateway);
    assert.equal(await admin(gateway, '/readyz'), 'ready\ngeneration 3\n');
    await last.stop();
  });
});

/** Makes one request after the other on one connection until it is told to stop; gives the codes of those that failed. */
async function keepAsking(gateway: Gateway, over: AbortSignal): Promise<unknown[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const failures: unknown[] = [];
  while (!over.aborted) {
    const options = { port: gateway.port, path: '/ssh/', agent, headers: { host: 'localhost' } };
    await new Promise<void>((resolve, reject) => {
      get(options, (answer) => answer.resume().on('end', resolve).on('error', reject)).on('error', reject);
    }).catch((error: NodeJS.ErrnoException) => failures.push(error.code));
  }
  agent.destroy();
  return failures;
}

describe('requests on connections that stay open', () => {
  for (const workers of [1, 2]) {
    it(`are answered while the next process takes over from ${workers}`, async () => {
      const gateway = await startGateway(scratch, { targets: { box: '127.0.0.1:1' }, settings: { workers } });
      await logs(gateway.running, 'listening');
      const over = new AbortController();
      const asking = Array.from({ length: 8 }, () => keepAsking(gateway, over.signal));
      const pids = (): number[] =>
        gateway.running
          .log()
          .split('\n')
          .filter((line) => line.includes('"msg":"listening"'))
          .map((line) => (JSON.parse(line) as { pid: number }).pid);
      gateway.running.signal('SIGUSR2');
      try {
        await eventually(() => pids().length === 2, 'the next process', 60_000);
        await logs(gateway.running, 'the upgrade has succeeded: the next process has taken over');
      } finally {
        over.abort();
      }
      assert.deepEqual((await Promise.all(asking)).flat(), []);
      process.kill(pids()[1]!, 'SIGTERM');
      await gateway.running.ended;
    });
  }
});
