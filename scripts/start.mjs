import { continueWith, installPackages, pinnedNode } from './bootstrap.mjs';

installPackages();
continueWith(pinnedNode, ['server/main.ts', 'serve', '--init', ...process.argv.slice(2)]);
