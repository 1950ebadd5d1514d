import assert from 'node:assert/strict';
import { copyFileSync, existsSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { packageDirectory } from '../e2e/support/needs.ts';
import { output } from '../e2e/support/process.ts';
import { openScratch } from '../e2e/support/scratch.ts';

describe('npm run build', () => {
  const scratch = openScratch();
  const built = (path: string): string => scratch.path(path);
  const { name, version, exports } = JSON.parse(
    readFileSync(join(packageDirectory, 'package.json'), 'utf8'),
  ) as { name: string; version: string; exports: { '.': { types: string; default: string } } };

  before(async () => {
    // As scripts/build.mjs does, beside the package instead of in it.
    const compile = [join(packageDirectory, 'node_modules/.bin/tsc'), '-p', 'tsconfig.build.json'];
    await output([...compile, '--outDir', built('dist')], { cwd: packageDirectory, timeoutMs: 120_000 });
    copyFileSync(join(packageDirectory, 'package.json'), built('package.json'));
    symlinkSync(join(packageDirectory, 'node_modules'), built('node_modules'));
  });

  it('makes a gateway that starts and knows its version', async () => {
    const printed = await output([process.execPath, built('dist/server/main.js'), '--version']);
    assert.equal(printed.toString(), `${name}-gateway ${version}\n`);
  });

  it('makes the plugin and its types, where package.json says they are', async () => {
    for (const file of Object.values(exports['.'])) assert.ok(existsSync(built(file)), file);
    const plugin = (await import(built(exports['.'].default))) as { postern: unknown };
    assert.equal(typeof plugin.postern, 'function');
  });
});
