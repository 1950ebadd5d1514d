import { buildClient, continueWith, installPackages, pinnedNode } from './bootstrap.mjs';

installPackages();
buildClient();
continueWith(pinnedNode, ['scripts/demo.ts', ...process.argv.slice(2)]);
