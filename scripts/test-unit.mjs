// The tests that start no process (`scripts/unit-tests.mjs` chooses them), or the files that are named.
import { join } from 'node:path';
import { refuseUnknownFlags } from './arguments.mjs';
import { continueWith, installPackages, pinnedNode, root } from './bootstrap.mjs';
import { unitTests } from './unit-tests.mjs';

const files = process.argv.slice(2);

await refuseUnknownFlags('npm run test:unit', files, ['--list']);
if (files.includes('--list')) {
  console.log(unitTests(root).join('\n'));
  process.exit();
}
installPackages();
continueWith(
  process.env.POSTERN_NODE ?? pinnedNode,
  [
    '--test',
    '--test-reporter=spec',
    // Unit tests wait more than they compute.
    '--test-concurrency=4',
    '--test-timeout=300000',
    ...(files.length > 0 ? files : unitTests(root)),
  ],
  // The folder does not exist: code under test finds no programs to start, on any machine.
  { env: { ...process.env, PATH: join(root, 'no-programs') }, limitMs: 10 * 60_000 },
);
