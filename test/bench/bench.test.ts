import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { packageDirectory } from '../e2e/support/needs.ts';
import { run } from '../e2e/support/process.ts';

const bench = (...args: string[]) =>
  run([process.execPath, join(packageDirectory, 'bench/bench.ts'), ...args], { timeoutMs: 60_000 });

describe('npm run bench', () => {
  it('lists its figures', async () => {
    const { code, stdout } = await bench('--list');
    assert.equal(code, 0);
    assert.match(stdout.toString(), /^bulk +\S.*\nkeystroke +\S/);
  });

  it('says what figures there are when it is asked for another one, and measures nothing', async () => {
    const { code, stdout, stderr } = await bench('--only', 'bulk', '--only', 'speed');
    assert.deepEqual([code, stdout.toString()], [2, '']);
    assert.match(stderr.toString(), /^postern: there is no figure speed; there are bulk, keystroke, /);
  });

  it('says how it is used when an option is not known', async () => {
    const { code, stderr } = await bench('--fast');
    assert.equal(code, 2);
    assert.match(stderr.toString(), /--fast[^]*--quick/);
  });
});
