import { continueWith, installPackages, pinnedNode } from './bootstrap.mjs';

installPackages();
continueWith(pinnedNode, ['bench/bench.ts', ...process.argv.slice(2)]);
