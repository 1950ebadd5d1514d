import { join } from 'node:path';
import { refuseUnknownFlags } from './arguments.mjs';
import { buildClient, continueWith, installPackages, pinnedNode, root } from './bootstrap.mjs';
import { installSystemPackages } from './system-packages.mjs';

const files = process.argv.slice(2);

await refuseUnknownFlags('npm test', files, []);
installPackages();
installSystemPackages();
buildClient();
const isLong = Boolean(process.env.POSTERN_LONG);
continueWith(
  process.env.POSTERN_NODE ?? pinnedNode,
  [
    join(root, 'scripts/run-tests.mjs'),
    // One more than the cores of the machines that this is meant for: most files wait for programs half of their time.
    '3',
    String(isLong ? 7_200_000 : 600_000),
    ...(files.length > 0 ? files : ['test/**/*.test.ts']),
  ],
  {
    // Hundreds of Node.js processes start: each takes half the time when the sources are compiled already.
    env: { ...process.env, NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/compiled') },
    ...(!isLong && { limitMs: 45 * 60_000 }),
  },
);
