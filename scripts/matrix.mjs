// The whole suite on each line of Node.js that the gateway supports.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { refuseUnknownFlags } from './arguments.mjs';
import { installPackages, root, run } from './bootstrap.mjs';

const versions = ['22.23.3', '24.21.0', '26.10.0'];

await refuseUnknownFlags('npm run test:matrix', process.argv.slice(2), []);
installPackages();
const results = versions.map((version) => {
  const node = fetchNode(version);
  console.log(`\npostern: the suite on Node.js ${version}`);
  const { status } = spawnSync(process.execPath, ['scripts/test.mjs', ...process.argv.slice(2)], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, POSTERN_NODE: node },
  });
  return { version, passed: status === 0 };
});
for (const { version, passed } of results)
  console.log(`postern: Node.js ${version}: ${passed ? 'passed' : 'FAILED'}`);
process.exit(results.every(({ passed }) => passed) ? 0 : 1);

function fetchNode(version) {
  const folder = join(root, 'node_modules/.node-versions', version);
  const binary = join(folder, 'node_modules/node/bin/node');
  if (existsSync(binary)) return binary;
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ private: true, allowScripts: { node: true } }),
  );
  run('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', `node@${version}`], { cwd: folder });
  return binary;
}
