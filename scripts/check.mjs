// Types, lint and format, then the whole suite.
import { spawnSync } from 'node:child_process';
import { continueWith, root } from './bootstrap.mjs';

for (const name of ['typecheck', 'lint']) {
  const { status } = spawnSync(process.execPath, ['scripts/source-check.mjs', name], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}
continueWith(process.execPath, ['scripts/test.mjs', ...process.argv.slice(2)]);
