// The tests that start no process (`scripts/unit-tests.mjs` chooses them), or the files that are named.
import { join } from 'node:path';
import { continueWith, installPackages, pinnedNode, root } from './bootstrap.mjs';
import { unitTests } from './unit-tests.mjs';

const files = process.argv.slice(2);

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
    // They wait more than they compute.
    '--test-concurrency=4',
    '--test-timeout=60000',
    ...(files.length > 0 ? files : unitTests(root)),
  ],
  // A folder that does not exist: code under test that starts a program does not find it, on any machine.
  { env: { ...process.env, PATH: join(root, 'no-programs') }, limitMs: 10 * 60_000 },
);
