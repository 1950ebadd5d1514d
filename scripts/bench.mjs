import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildClient, continueWith, installPackages, pinnedNode, root } from './bootstrap.mjs';
import { installSystemPackages } from './system-packages.mjs';

const { debianPackages } = JSON.parse(readFileSync(join(root, 'bench/package.json'), 'utf8'));

installPackages();
// Programs that are unavailable are named and left out.
installSystemPackages(debianPackages, { isOptional: true });
buildClient();
continueWith(pinnedNode, ['bench/bench.ts', ...process.argv.slice(2)]);
