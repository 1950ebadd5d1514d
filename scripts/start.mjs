import { refuseUnknownFlags } from './arguments.mjs';
import { continueWith, installPackages, pinnedNode } from './bootstrap.mjs';

const args = process.argv.slice(2);
await refuseUnknownFlags('npm start', args, ['--init', '-h', '--help'], ['--config']);
installPackages();
continueWith(pinnedNode, ['server/main.ts', 'serve', '--init', ...args]);
