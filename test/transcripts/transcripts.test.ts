import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { root } from '../support/source-tree.ts';
import { difference, parseTranscript } from './transcript.ts';

const folder = import.meta.dirname;
const scratch = mkdtempSync(join(tmpdir(), 'postern-transcript-'));
after(() => rmSync(scratch, { recursive: true, force: true }));

const programs = join(scratch, 'bin');
mkdirSync(programs);
for (const [name, main] of [
  ['postern', 'client/main.ts'],
  ['postern-gateway', 'server/main.ts'],
] as const) {
  writeFileSync(
    join(programs, name),
    `#!/bin/sh\nexec '${process.execPath}' --disable-warning=ExperimentalWarning '${join(root, main)}' "$@"\n`,
    { mode: 0o755 },
  );
}

/** Runs one command as a shell would, with a home of its own and both streams in one, as in a terminal. */
function run(command: string, home: string): { readonly output: string; readonly status: number } {
  const { stdout, status } = spawnSync('/bin/sh', ['-c', `exec 2>&1\n${command}\n`], {
    cwd: home,
    encoding: 'utf8',
    timeout: 60_000,
    env: { HOME: home, PATH: `${programs}:/usr/bin:/bin`, LANG: 'C.UTF-8', COLUMNS: '100', NO_COLOR: '1' },
  });
  return { output: stdout.replaceAll(home, '~'), status: status ?? -1 };
}

for (const name of readdirSync(folder).filter((file) => file.endsWith('.txt'))) {
  describe(name, () => {
    const home = join(scratch, name.replace('.txt', ''));
    mkdirSync(home);
    for (const step of parseTranscript(readFileSync(join(folder, name), 'utf8'))) {
      it(`line ${step.line}: ${step.command.split('\n')[0]}`, () => {
        const { output, status } = run(step.command, home);
        assert.equal(difference(step, output), undefined);
        assert.equal(status, step.exit, output);
      });
    }
  });
}

describe('a transcript', () => {
  const [step] = parseTranscript('prose\n$ cat <<E\n> a\n> E\na … c\n…\nlast\n[exit 3]\n# prose\n');

  it('is read as a terminal shows it', () =>
    assert.deepEqual(step, {
      command: 'cat <<E\na\nE',
      expected: ['a … c', '…', 'last'],
      exit: 3,
      line: 2,
    }));

  for (const output of ['a b c\nlast', 'a  c\nany\nlines\nlast\n']) {
    it(`takes ${JSON.stringify(output)}`, () => assert.equal(difference(step!, output), undefined));
  }
  for (const output of ['', 'a b c\n', 'a b d\nlast', 'a b c\nlast\nmore', 'x a b c\nlast']) {
    it(`refuses ${JSON.stringify(output)}`, () => assert.notEqual(difference(step!, output), undefined));
  }
});
