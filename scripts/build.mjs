// Builds the content of the npm package: the client as one file, the gateway as plain JavaScript.
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildClient, installPackages, root, run } from './bootstrap.mjs';

installPackages();
rmSync(join(root, 'dist'), { recursive: true, force: true });
run(join(root, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json']);
chmodSync(join(root, 'dist/server/main.js'), 0o755);
buildClient();
