import { buildClient, continueWith, installPackages, pinnedNode } from './bootstrap.mjs';

installPackages();
buildClient();
continueWith(pinnedNode, ['bench/bench.ts', ...process.argv.slice(2)]);
