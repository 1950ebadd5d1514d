import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { afterEach, describe, it } from 'node:test';

const children = new Set<ChildProcess>();
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
});

/** Runs a program that has both functions; `next` resolves to its next line. */
function run(program: string, options: readonly string[] = []) {
  const from = new URL('../../../server/runtime/early-signals.ts', import.meta.url);
  const source = `const { holdSignals, onSignal } = await import(${JSON.stringify(from)});\n${program}`;
  const args = [...options, '--inspect-port=0', '--input-type=module', '--eval', source];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  children.add(child);
  const lines = createInterface({ input: child.stdout! });
  const pending: string[] = [];
  lines.on('line', (line) => void pending.push(line));
  const next = async (): Promise<string> => {
    while (pending.length === 0) await once(lines, 'line');
    return pending.shift()!;
  };
  return { child, next };
}

describe('a gateway that is starting', () => {
  for (const signal of ['SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const)
    it(`lives through ${signal}, and acts on it once it can`, async () => {
      const { child, next } = run(`
        holdSignals(process.env);
        console.log('holds');
        process.stdin.once('data', () => {
          onSignal('${signal}', () => console.log('acts'));
          console.log('listens');
        });`);
      assert.equal(await next(), 'holds');
      child.kill(signal);
      child.stdin!.write('go on');
      assert.equal(await next(), 'listens');
      assert.equal(await next(), 'acts');
      child.kill(signal);
      assert.equal(await next(), 'acts');
    });

  it('acts on no signal that did not come', async () => {
    const { next } = run(`
      holdSignals(process.env);
      onSignal('SIGHUP', () => console.log('acts'));
      setTimeout(() => console.log('did nothing'), 100);`);
    assert.equal(await next(), 'did nothing');
  });

  const opened = `
    const { url } = await import('node:inspector');
    const until = async (isTrue) => { while (!isTrue()) await new Promise((r) => setTimeout(r, 20)); };`;

  it('closes a debugger that SIGUSR1 has opened before', async () => {
    const { next } = run(`${opened}
      process.kill(process.pid, 'SIGUSR1');
      await until(() => url() !== undefined);
      console.log('open');
      holdSignals(process.env);
      await until(() => url() === undefined);
      console.log('closed');`);
    assert.equal(await next(), 'open');
    assert.equal(await next(), 'closed');
  });

  it('leaves the debugger alone that was asked for', async () => {
    const { next } = run(
      `${opened}
      holdSignals(process.env);
      setTimeout(() => console.log(url() === undefined ? 'closed' : 'open'), 300);`,
      ['--inspect=0'],
    );
    assert.equal(await next(), 'open');
  });
});
