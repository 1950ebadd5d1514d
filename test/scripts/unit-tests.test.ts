import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { unitTests } from '../../scripts/unit-tests.mjs';

describe('unitTests()', () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-unit-tests-'));
  after(() => rmSync(folder, { recursive: true }));

  const helper = './support/starts.ts';
  const files: Readonly<Record<string, string>> = {
    'server/program.ts': "import { spawn } from 'node:child_process';",
    'test/support/starts.ts': "import {\n  spawn,\n} from 'node:child_process';",
    'test/support/pure.ts': "import './again.ts';",
    'test/support/again.ts': "export * from './pure.ts';",
    'test/e2e/e2e.test.ts': '',
    'test/hostile/hostile.test.ts': '',
    'test/direct.test.ts': "import { spawn } from 'node:child_process';",
    'test/helper.test.ts': "import { start } from './support/starts.ts';",
    'test/lazy.test.ts': `  const { start } = await import('${helper}');`,
    'test/unit/pure.test.ts': "import { it } from 'node:test';\nimport { pure } from '../support/pure.ts';",
    'test/unit/product.test.ts': "import { program } from '../../server/program.ts';",
    'test/unit/types.test.ts': "import type { ChildProcess } from 'node:child_process';",
  };
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, dirname(name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }

  it('leaves out the folders of real programs, and tests that start a process, directly or by a helper', () => {
    assert.deepEqual(unitTests(folder), [
      'test/unit/product.test.ts',
      'test/unit/pure.test.ts',
      'test/unit/types.test.ts',
    ]);
  });

  it('finds the unit tests of this project, this one too', () => {
    const found = unitTests(fileURLToPath(new URL('../..', import.meta.url)));
    assert.ok(found.length > 50, `${found.length}`);
    assert.ok(found.includes('test/scripts/unit-tests.test.ts'));
  });
});
