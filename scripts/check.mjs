// Types, lint and format, then the whole suite.
import { spawnSync } from 'node:child_process';
import { refuseUnknownFlags } from './arguments.mjs';
import { continueWith, root } from './bootstrap.mjs';

await refuseUnknownFlags('npm run check', process.argv.slice(2), []);
for (const name of ['typecheck', 'lint']) {
  const { status } = spawnSync(process.execPath, ['scripts/source-check.mjs', name], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}
continueWith(process.execPath, ['scripts/test.mjs', ...process.argv.slice(2)]);
