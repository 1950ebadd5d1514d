import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { longest, longestFirst } from '../../scripts/test-order.mjs';

const root = fileURLToPath(new URL('../../', import.meta.url));

describe('longestFirst()', () => {
  it('puts the longest first, then what runs programs, then the rest by name', () => {
    const files = ['test/b.test.ts', 'test/a.test.ts', 'test/hostile/a.test.ts', longest[1]!, longest[0]!];
    assert.deepEqual(longestFirst(files), [
      longest[0],
      longest[1],
      'test/hostile/a.test.ts',
      'test/a.test.ts',
      'test/b.test.ts',
    ]);
  });

  it('knows no file that is gone', () => {
    assert.deepEqual(
      longest.filter((file) => !existsSync(join(root, file))),
      [],
    );
  });
});
