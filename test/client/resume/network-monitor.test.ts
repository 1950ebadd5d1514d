import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';

const module = new URL('../../../client/resume/network-monitor.ts', import.meta.url).href;

/** A process that says what it notices, and `ready` first. */
const watcher = `
  const { watchNetwork } = await import(${JSON.stringify(module)});
  watchNetwork({ onWake: () => console.log('wake'), onNetworkChange: () => console.log('network') });
  console.log('ready');
  setInterval(() => {}, 1000);`;

function start(t: TestContext, command: string, args: readonly string[]) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return { child, next: async () => (await lines.next()).value };
}

/** Interfaces of our own to play with; needs a namespace, and so root. */
const hasNamespaces =
  spawnSync('unshare', ['--net', 'ip', 'link', 'add', 'p0', 'type', 'veth', 'peer', 'name', 'p1']).status ===
  0;

describe('watchNetwork()', () => {
  it('notices that the process was stopped, as by a machine that sleeps', async (t) => {
    const { child, next } = start(t, process.execPath, ['--input-type=module', '-e', watcher]);
    assert.equal(await next(), 'ready');
    child.kill('SIGSTOP');
    await delay(7000);
    child.kill('SIGCONT');
    assert.equal(await next(), 'wake');
  });

  const skip = hasNamespaces ? false : 'no network namespaces here';
  it('notices an address that comes, and one that goes', { skip }, async (t) => {
    const script = `
      ip link add p0 type veth peer name p1 && ip link set p0 up && ip link set p1 up
      "$0" --input-type=module -e "$1" &
      watcher=$!
      trap 'kill $watcher' EXIT
      while read -r command; do $command; done`;
    const { child, next } = start(t, 'unshare', ['--net', 'sh', '-c', script, process.execPath, watcher]);
    assert.equal(await next(), 'ready');
    child.stdin.write('ip addr add 192.0.2.1/24 dev p0\n');
    assert.equal(await next(), 'network');
    child.stdin.write('ip addr del 192.0.2.1/24 dev p0\n');
    assert.equal(await next(), 'network');
    child.stdin.end();
    assert.equal(await next(), undefined);
  });

  it('does not keep a process alive', async (t) => {
    const ending = watcher.replace('setInterval(() => {}, 1000);', '');
    const { next } = start(t, process.execPath, ['--input-type=module', '-e', ending]);
    assert.equal(await next(), 'ready');
    assert.equal(await next(), undefined);
  });
});
