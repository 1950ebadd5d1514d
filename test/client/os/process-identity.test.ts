import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { describe, it } from 'node:test';
import { isThere, ownIdentity, processState } from '../../../client/os/process-identity.ts';
import { own } from '../../e2e/support/process.ts';

const skip = existsSync('/proc/self/stat') ? false : 'there is no /proc here';

describe('processState()', () => {
  it('is running for this process', { skip }, () => {
    assert.equal(processState(ownIdentity()), 'running');
  });

  it('is running for a process that is stopped', { skip }, async (t) => {
    // Writes its identity as a lock does.
    const script = `import { ownIdentity } from ${JSON.stringify(new URL('../../../client/os/process-identity.ts', import.meta.url).href)};
      console.log(JSON.stringify(ownIdentity()));
      setInterval(() => {}, 1e9);`;
    const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module-typescript', '-e', script];
    const child = own(spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'inherit'] }));
    t.after(() => child.kill('SIGKILL'));
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const identity: unknown = JSON.parse(line.toString());
    child.kill('SIGSTOP');
    assert.equal(processState(identity), 'running');
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(processState(identity), 'ended');
  });

  it('is ended for a number that another process has by now', { skip }, () => {
    assert.equal(processState({ ...ownIdentity(), started: '1' }), 'ended');
  });

  it('is ended for a number that no process has', () => {
    const { pid } = spawnSync(process.execPath, ['--version']);
    assert.equal(isThere(pid), false);
    assert.equal(processState({ host: hostname(), pid }), 'ended');
  });

  it('is unknown without a start time, where only the number is in use', () => {
    assert.equal(processState({ host: hostname(), pid: process.pid }), 'unknown');
  });

  for (const value of [undefined, null, 'text', {}, { host: 'elsewhere', pid: 1 }, { host: hostname() }]) {
    it(`is unknown for ${JSON.stringify(value)}`, () => {
      assert.equal(processState(value), 'unknown');
    });
  }
});
