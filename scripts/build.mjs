// Builds the content of the npm package: the client as one file, the gateway as plain JavaScript.
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { refuseUnknownFlags, refuseWords } from './arguments.mjs';
import { buildClient, installPackages, root, run } from './bootstrap.mjs';

await refuseUnknownFlags('npm run build', process.argv.slice(2), []);
refuseWords('npm run build', process.argv.slice(2));
installPackages();
rmSync(join(root, 'dist'), { recursive: true, force: true });
run(join(root, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json']);
chmodSync(join(root, 'dist/server/main.js'), 0o755);
buildClient();
