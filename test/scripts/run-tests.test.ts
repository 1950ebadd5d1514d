import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../scripts/run-tests.mjs', import.meta.url));

const test = "import { test } from 'node:test';\n";
const files: Readonly<Record<string, string>> = {
  'passes.test.ts': `${test}test('passes', () => {});`,
  'fails.test.ts': `${test}test('fails', () => { throw new Error('no'); });`,
  'broken.test.ts': "import './nowhere.ts';",
  'slow.test.ts': `${test}test('slow', () => new Promise((done) => setTimeout(done, 2000)));`,
  'deaf.test.ts': `${test}
process.on('SIGTERM', () => {});
test('deaf', () => {
  console.log('deaf', process.pid);
  return new Promise((done) => setTimeout(done, 60_000));
});`,
};

describe('run-tests.mjs', () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-run-tests-'));
  after(() => rmSync(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);

  /** Runs test files; `onOutput` gets all of the output so far. */
  async function run(
    patterns: readonly string[],
    onOutput: (output: string, interrupt: () => void) => void = () => {},
  ): Promise<{ readonly code: number | null; readonly output: string }> {
    // Node.js skips the files of a runner that a test has started, as it finds by this variable.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const child = spawn(process.execPath, [script, '2', '500', ...patterns], { cwd: folder, env });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        onOutput(output, () => child.kill('SIGINT'));
      });
    const [code] = (await once(child, 'exit')) as [number | null];
    return { code, output };
  }

  it('exits with 0 when all tests pass, and prints the summary', async () => {
    const { code, output } = await run(['passes.test.ts']);
    assert.match(output, /^ℹ pass 1$/m);
    assert.equal(code, 0);
  });

  for (const [what, patterns] of [
    ['a test that fails', ['passes.test.ts', 'fails.test.ts']],
    ['a file that cannot be loaded', ['passes.test.ts', 'broken.test.ts']],
    ['a test that exceeds the limit', ['passes.test.ts', 'slow.test.ts']],
  ] as const) {
    it(`exits with 1 after ${what}, and prints the summary`, async () => {
      const { code, output } = await run(patterns);
      assert.match(output, /^ℹ pass 1$/m);
      assert.equal(code, 1);
    });
  }

  it('exits with 1 when one of several patterns matches no file', async () => {
    const { code, output } = await run(['passes.test.ts', 'misspelled.test.ts']);
    assert.match(output, /misspelled\.test\.ts/);
    assert.equal(code, 1);
  });

  it('ends soon after an interruption, with the summary, even when a file does not', async () => {
    let pid: number | undefined;
    const { code, output } = await run(['deaf.test.ts'], (text, interrupt) => {
      const [, number] = /deaf (\d+)/.exec(text) ?? [];
      if (number === undefined || pid !== undefined) return;
      pid = Number(number);
      interrupt();
    });
    process.kill(pid!, 'SIGKILL');
    assert.match(output, /^Interrupted while running:\ndeaf\.test\.ts$/m);
    assert.match(output, /^ℹ tests 1$/m);
    assert.equal(code, 130);
  });
});
