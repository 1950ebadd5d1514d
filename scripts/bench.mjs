import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { refuseUnknownFlags } from './arguments.mjs';
import { buildClient, continueWith, installPackages, pinnedNode, root } from './bootstrap.mjs';
import { installSystemPackages } from './system-packages.mjs';

const { debianPackages } = JSON.parse(readFileSync(join(root, 'bench/package.json'), 'utf8'));

const args = process.argv.slice(2);
// Before minutes are spent on packages; bench/support/options.ts reads them.
await refuseUnknownFlags(
  'npm run bench',
  args,
  ['--quick', '--list', '--cpu-prof', '--write', '--help'],
  ['--only'],
);
installPackages();
// Programs that are unavailable are named and left out.
installSystemPackages(debianPackages, { isOptional: true });
buildClient();
continueWith(pinnedNode, ['bench/bench.ts', ...args]);
