// `node scripts/source-check.mjs typecheck|lint|format [FILES...]`: the tools that read the source without running it.
import { spawnSync } from 'node:child_process';
import { refuseUnknownFlags } from './arguments.mjs';
import { installPackages, root } from './bootstrap.mjs';

const [name, ...files] = process.argv.slice(2);
await refuseUnknownFlags(`npm run ${name}`, files, []);
const some = files.length > 0 ? files : ['.'];
const tools = {
  typecheck: [
    ['tsc', '-p', '.'],
    // The declarations of what is published.
    ['tsc', '-p', 'tsconfig.build.json', '--noEmit'],
  ],
  lint: [
    ['oxlint', '--type-aware', ...files],
    ['prettier', '--check', '--log-level=warn', ...some],
  ],
  format: [['prettier', '--write', '--log-level=warn', ...some]],
}[name];

if (tools === undefined) throw new TypeError(`no such check: ${name}`);
installPackages();
for (const [tool, ...args] of tools) {
  console.log(`postern: ${tool}`);
  const { status } = spawnSync(`node_modules/.bin/${tool}`, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
