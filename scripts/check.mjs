// Types, lint and format, then the whole suite.
import { spawnSync } from 'node:child_process';
import { continueWith, installPackages, root } from './bootstrap.mjs';

installPackages();
for (const [tool, ...args] of [
  ['tsc', '-p', '.'],
  ['oxlint', '--type-aware'],
  ['prettier', '--check', '--log-level=warn', '.'],
]) {
  console.log(`postern: ${tool}`);
  const { status } = spawnSync(`node_modules/.bin/${tool}`, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
continueWith(process.execPath, ['scripts/test.mjs', ...process.argv.slice(2)]);
