import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { startFaultProxy } from '../../support/fault-proxy.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { own } from '../support/process.ts';
import { audited, isLong } from '../support/resume.ts';
import { scratchOf } from '../support/scratch.ts';
import { box, clientCommand, prepareSsh } from '../support/ssh.ts';
import type { Ssh } from '../support/ssh.ts';
import { openWorld } from '../support/world.ts';
import type { World } from '../support/world.ts';
import { closedPort } from '../../client/support.ts';

const programs = ['ssh', 'sshd', 'ssh-keygen', 'openssl', 'nginx'];

/** The entries that are remembered, each once. */
function remembered({ env }: Ssh): readonly string[] {
  const text = readFileSync(join(env['XDG_STATE_HOME']!, 'postern/entries.json'), 'utf8');
  const all = Object.values(JSON.parse(text) as Record<string, { entry: string }>);
  return [...new Set(all.map(({ entry }) => entry))];
}

/** The entries of the sessions that have reached the target, each once. */
function used(world: World): readonly unknown[] {
  return [...new Set(audited(world, 'open').map(({ entry }) => entry))];
}

describe('a session that is opened while the way breaks', needs(clientBundle, ...programs), () => {
  it('is resumable though every connection is reset after 300 ms', async (t) => {
    const scratch = scratchOf(t);
    const world = await openWorld(scratch, 'nginx');
    const proxy = await startFaultProxy(Number(new URL(world.url).port));
    const cutting = setInterval(() => proxy.cut('reset'), 300);
    t.after(() => {
      clearInterval(cutting);
      proxy.close();
    });
    const ssh = prepareSsh(scratch, {
      sshd: world.sshd,
      env: { ...world.env, POSTERN_GATEWAY: `https://localhost:${proxy.port}/ssh/` },
      name: 'cut',
      proxyCommand: clientCommand('connect', '%h', '%p').join(' '),
    });
    for (let turn = 0; turn < (isLong ? 30 : 3); turn++) {
      const { code, stdout, stderr } = await ssh.run([box, 'echo hi; sleep 1'], { timeoutMs: 60_000 });
      assert.equal(code, 0, stderr.toString());
      assert.equal(stdout.toString(), 'hi\n');
    }
    assert.deepEqual(used(world), ['relay']);
    assert.deepEqual(remembered(ssh), ['relay']);
  });

  it('waits for a web server that restarts', async (t) => {
    const world = await openWorld(scratchOf(t), 'nginx');
    const ssh = world.ssh();
    await world.front!.stop();
    const outcome = ssh.run([box, 'echo hi'], { timeoutMs: 60_000 });
    await delay(2000);
    await world.front!.start();
    const { code, stdout, stderr } = await outcome;
    assert.equal(code, 0, stderr.toString());
    assert.equal(stdout.toString(), 'hi\n');
    assert.deepEqual(used(world), ['relay']);
    assert.deepEqual(remembered(ssh), ['relay']);
  });
});

async function startClient(t: TestContext): Promise<ChildProcessWithoutNullStreams> {
  const scratch = scratchOf(t);
  const [command, ...args] = clientCommand('connect', box, '22');
  return own(
    spawn(command!, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: {
        ...process.env,
        XDG_STATE_HOME: scratch.path('state'),
        XDG_CONFIG_HOME: scratch.path('config'),
        POSTERN_GATEWAY: `http://127.0.0.1:${await closedPort()}/ssh/`,
        POSTERN_TOKEN: 'token',
      },
    }),
  );
}

describe('`postern connect` where nothing answers', needs(clientBundle), () => {
  it('gives up after a few seconds, and says why', async (t) => {
    const client = await startClient(t);
    let stderr = '';
    client.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const startedAt = performance.now();
    const [code] = (await once(client, 'close')) as [number];
    assert.equal(code, 69);
    assert.match(stderr, /it refuses connections, ECONNREFUSED \(GATEWAY_UNREACHABLE\)/);
    // It had several turns, however slow this machine is.
    assert.ok(performance.now() - startedAt > 4000);
  });

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    it(`ends with ${signal} while it tries`, async (t) => {
      const client = await startClient(t);
      await delay(1500);
      assert.equal(client.exitCode, null);
      client.kill(signal);
      assert.deepEqual(await once(client, 'close'), [null, signal]);
    });
  }

  it('ends when its caller is gone while it tries', async (t) => {
    const client = await startClient(t);
    await delay(1500);
    assert.equal(client.exitCode, null);
    client.stdin.destroy();
    client.stdout.destroy();
    assert.deepEqual(await once(client, 'exit'), [null, 'SIGTERM']);
  });
});
