import { buildClient, continueWith, installPackages, pinnedNode } from './bootstrap.mjs';
import { installSystemPackages } from './system-packages.mjs';

const files = process.argv.slice(2);

installPackages();
installSystemPackages();
buildClient();
const isLong = Boolean(process.env.POSTERN_LONG);
continueWith(
  process.env.POSTERN_NODE ?? pinnedNode,
  [
    '--test',
    '--test-reporter=spec',
    '--test-concurrency=2',
    `--test-timeout=${isLong ? 7_200_000 : 600_000}`,
    ...(files.length > 0 ? files : ['test/**/*.test.ts']),
  ],
  isLong ? {} : { limitMs: 45 * 60_000 },
);
