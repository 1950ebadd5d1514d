import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run } from '../e2e/support/process.ts';

const demo = [process.execPath, fileURLToPath(new URL('../../scripts/demo.ts', import.meta.url))];

describe('npm run demo', () => {
  for (const [what, env] of [
    ["this machine's sshd", {}],
    ['the ssh2 server where there is no sshd', { POSTERN_DEMO_SSHD: '/nowhere/sshd' }],
  ] as const) {
    it(`--once takes a real ssh to ${what}, and exits 0`, async () => {
      const { code, stdout, stderr } = await run([...demo, '--once'], { env, timeoutMs: 60_000 });
      assert.equal(code, 0, `${stdout.toString()}${stderr.toString()}`);
      assert.match(stdout.toString(), /ssh box +"hello from box, \S+"/);
      assert.match(stdout.toString(), /you opened box:22 at 127\.0\.0\.1:\d+/);
    });
  }

  it('exits 1 and says why when there is no ssh', async () => {
    const { code, stderr } = await run([...demo, '--once'], { env: { PATH: '/nowhere' } });
    assert.equal(code, 1);
    assert.match(stderr.toString(), /there is no ssh on this machine/);
  });

  it('stays up, its command works as it is printed, and Ctrl-C ends everything', async () => {
    const child = spawn(demo[0]!, demo.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    while (!text.includes('Ctrl-C')) await once(child.stdout, 'data');
    const command = /^ {2}(ssh -F \S+ box)$/m.exec(text)![1]!;
    const { code, stdout } = await run(['sh', '-c', `${command} 'exit 7'`]);
    assert.equal(code, 7, stdout.toString());
    child.kill('SIGINT');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
    assert.equal((await run(['sh', '-c', command])).code, 255);
  });
});
