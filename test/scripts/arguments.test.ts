import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { root } from '../support/source-tree.ts';

const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  scripts: Readonly<Record<string, string>>;
};

/** Runs the program of an npm script with one more argument. */
function run(script: string, argument: string): { readonly status: number | null; readonly stderr: string } {
  const [program, ...args] = script.replace(/^\w+=\S+ /, '').split(' ');
  assert.equal(program, 'node');
  return spawnSync(process.execPath, [...args, argument], { cwd: root, encoding: 'utf8', timeout: 60_000 });
}

describe('every npm script', () => {
  for (const [name, script] of Object.entries(scripts)) {
    it(`${name} refuses a flag that it does not know`, () => {
      const { status, stderr } = run(script, '--zzqx');
      assert.deepEqual([status, /has no flag --zzqx; there (?:is|are) /.test(stderr)], [2, true], stderr);
    });
  }

  it('names the flag that was meant', () => {
    assert.match(run(scripts['demo']!, '--onec').stderr, /did you mean --once\?/);
    assert.match(run(scripts['bench']!, '--qick').stderr, /did you mean --quick\?/);
  });
});
