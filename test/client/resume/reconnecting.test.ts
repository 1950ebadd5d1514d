import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { direct } from '../../../client/egress/direct.ts';
import type { ConnectionAges } from '../../../client/resume/learned-max-age.ts';
import { relay } from '../../../client/entry/resumable.ts';
import { tunnelsHere } from '../../../client/resume/tunnel-status-file.ts';
import { Secret } from '../../../protocol/secret.ts';
import { startEcho, startParts } from '../../server/support/gateway-parts.ts';
import type { Parts } from '../../server/support/gateway-parts.ts';
import { startFaultProxy } from '../../support/fault-proxy.ts';
import type { FaultProxy } from '../../support/fault-proxy.ts';
import { temporaryDirectory } from '../support.ts';

const main = join(import.meta.dirname, '../../../client/main.ts');
const noTerminal =
  spawnSync('script', ['--version']).error === undefined ? false : 'there is no script(1) here';

/** A process, and what it has said. */
interface Running {
  readonly child: ChildProcess;
  /** Resolves to the match when what was said on either stream, or on the terminal, matches. */
  readonly said: (pattern: RegExp) => Promise<RegExpExecArray>;
  readonly text: () => string;
}

describe('postern connect that loses its connection', () => {
  let parts: Parts;
  let proxy: FaultProxy;
  let echo: Awaited<ReturnType<typeof startEcho>>;
  before(async () => {
    echo = await startEcho();
    parts = await startParts();
  });
  after(async () => {
    echo.close();
    await parts.close();
  });

  async function start(
    t: TestContext,
    how: 'plain' | 'stderr nowhere',
  ): Promise<Running & { state: string }> {
    proxy = await startFaultProxy(parts.port);
    t.after(() => proxy.close());
    const home = temporaryDirectory(t);
    const gateway = `http://127.0.0.1:${proxy.port}/ssh/`;
    const command = [process.execPath, main, 'connect', '--gateway', gateway, 'localhost', String(echo.port)];
    const env = { HOME: home, POSTERN_TOKEN: 'good', PATH: process.env['PATH'], SHELL: '/bin/sh' };
    const [program, args] =
      how === 'plain'
        ? [command[0]!, command.slice(1)]
        : // The terminal is the one of `script`; stdin and stdout are not.
          ['script', ['-qefc', `tail -f ${home}/in | ${command.join(' ')} 2>/dev/null | cat`, '/dev/null']];
    if (how !== 'plain') writeFileSync(join(home, 'in'), '');
    const child = spawn(program, args as readonly string[], { stdio: 'pipe', env, detached: true });
    t.after(() => {
      try {
        process.kill(-child.pid!, 'SIGKILL');
      } catch {
        // It has ended.
      }
    });
    child.stdin.on('error', () => {});
    const state = join(home, '.local/state/postern');
    return { child, state, ...watch(child) };
  }

  it('says so after three seconds, and how long it took; status shows it all the time', async (t) => {
    const { child, said, text, state } = await start(t, 'plain');
    child.stdin!.write('before\n');
    await said(/before\n/);
    assert.deepEqual(shown(state), [[`localhost:${echo.port}`, 'connected', 0]]);
    const cutAt = performance.now();
    proxy.isUp = false;
    proxy.cut('reset');
    await said(/^postern: reconnecting… \(the connection broke\)\n/m);
    assert.ok(performance.now() - cutAt >= 2900);
    assert.deepEqual(shown(state), [[`localhost:${echo.port}`, 'reconnecting', 0]]);
    child.stdin!.write('during\n');
    proxy.isUp = true;
    await said(/^postern: resumed after \d+ s\n/m);
    await said(/during\n/);
    assert.deepEqual(shown(state), [[`localhost:${echo.port}`, 'connected', 1]]);
    child.stdin!.end();
    assert.deepEqual(await once(child, 'exit'), [0, null]);
    assert.equal(text().match(/postern:/g)?.length, 2);
    assert.deepEqual(readdirSync(join(state, 'tunnels')), []);
  });

  it('says nothing of a loss that is over at once', async (t) => {
    const { child, said, text } = await start(t, 'plain');
    child.stdin!.write('before\n');
    await said(/before\n/);
    proxy.cut('reset');
    child.stdin!.end('after\n');
    await said(/after\n/);
    assert.deepEqual(await once(child, 'exit'), [0, null]);
    assert.doesNotMatch(text(), /postern:/);
  });

  for (const [signal, code] of [
    ['SIGHUP', 129],
    ['SIGTERM', 143],
  ] as const) {
    it(`leaves at once at ${signal} while it has no connection, and leaves no file`, async (t) => {
      const { child, said, state } = await start(t, 'plain');
      child.stdin!.write('before\n');
      await said(/before\n/);
      proxy.isUp = false;
      proxy.cut('reset');
      await until(() => shown(state)[0]?.[1] === 'reconnecting');
      child.kill(signal);
      assert.deepEqual(await once(child, 'exit'), [code, null]);
      assert.deepEqual(readdirSync(join(state, 'tunnels')), []);
    });
  }

  it('leaves a file when it is killed, which the next look takes away', async (t) => {
    const { child, said, state } = await start(t, 'plain');
    child.stdin!.write('before\n');
    await said(/before\n/);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(readdirSync(join(state, 'tunnels')).length, 1);
    assert.deepEqual(shown(state), []);
    assert.deepEqual(readdirSync(join(state, 'tunnels')), []);
  });

  it('says it on the terminal when stderr goes nowhere', { skip: noTerminal }, async (t) => {
    const { said, state } = await start(t, 'stderr nowhere');
    await until(() => shown(state).length === 1);
    proxy.isUp = false;
    proxy.cut('end');
    await said(/postern: reconnecting… \(the connection ended without a Close frame\)\r+\n/);
    proxy.isUp = true;
    await said(/postern: resumed after \d+ s\r+\n/);
  });
});

function shown(state: string): readonly (readonly unknown[])[] {
  return tunnelsHere(state).map(({ target, state: how, resumes }) => [target, how, resumes]);
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await delay(20);
}

function watch(child: ChildProcess): Pick<Running, 'said' | 'text'> {
  let text = '';
  let changed: (() => void) | undefined;
  for (const stream of [child.stdout!, child.stderr!])
    stream.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      changed?.();
    });
  return {
    text: () => text,
    async said(pattern) {
      for (;;) {
        const match = pattern.exec(text);
        if (match !== null) return match;
        await new Promise<void>((resolve) => (changed = resolve));
      }
    },
  };
}

async function open(t: TestContext, ages: ConnectionAges): Promise<{ tunnel: Duplex; proxy: FaultProxy }> {
  const [parts, echo] = [await startParts(), await startEcho()];
  const proxy = await startFaultProxy(parts.port);
  const request = {
    gateway: new URL(`http://127.0.0.1:${proxy.port}/ssh/`),
    target: { host: '127.0.0.1', port: echo.port },
    token: new Secret('good'),
  };
  const later = {
    withCredential: <T>(_: AbortSignal, use: (pass: typeof request) => T) => use(request),
    warn() {},
    ages,
  };
  const tunnel = await relay.open({ ...request, later }, direct, AbortSignal.timeout(10_000));
  t.after(async () => {
    tunnel.on('error', () => {}).destroy();
    proxy.close();
    echo.close();
    await parts.close();
  });
  return { tunnel, proxy };
}

describe('a resumable tunnel whose connections are cut at some age', () => {
  it('changes them before, and loses none', async (t) => {
    const cuts: number[] = [];
    const { tunnel, proxy } = await open(t, { limitMs: 100, cutAt: (age) => void cuts.push(age) });
    await until(() => proxy.count >= 4);
    tunnel.write('still here');
    assert.equal(String((await once(tunnel, 'data'))[0]), 'still here');
    assert.deepEqual(cuts, []);
  });

  it('notes how old they were', async (t) => {
    const cuts: number[] = [];
    const { tunnel, proxy } = await open(t, { limitMs: undefined, cutAt: (age) => void cuts.push(age) });
    const openedAt = performance.now();
    await delay(300);
    proxy.cut('end');
    tunnel.write('again');
    await once(tunnel, 'data');
    assert.equal(cuts.length, 1);
    assert.ok(cuts[0]! >= 290 && cuts[0]! <= performance.now() - openedAt + 50, `${cuts[0]} ms`);
  });
});
