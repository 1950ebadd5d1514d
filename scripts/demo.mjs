import { refuseUnknownFlags, refuseWords } from './arguments.mjs';
import { buildClient, continueWith, installPackages, pinnedNode } from './bootstrap.mjs';

const args = process.argv.slice(2);
await refuseUnknownFlags('npm run demo', args, ['--once']);
refuseWords('npm run demo', args);
installPackages();
buildClient();
continueWith(pinnedNode, ['scripts/demo.ts', ...args]);
