// Bundles the client into one file that every Node from 20 on runs: dist/postern.cjs.
import { chmod, readFile, rename } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const outfile = process.argv[2] ?? `${root}dist/postern.cjs`;
const { version } = JSON.parse(await readFile(`${root}package.json`, 'utf8'));

const temporary = `${outfile}.${process.pid}.tmp`;

await build({
  absWorkingDir: root,
  entryPoints: ['client/main.ts'],
  outfile: temporary,
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  // Names stay for stack traces.
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: true,
  legalComments: 'none',
  banner: { js: '#!/usr/bin/env node' },
  define: {
    POSTERN_VERSION: JSON.stringify(version),
    // `ws` would look for these add-ons beside the bundle, where somebody else may have put something.
    'process.env.WS_NO_BUFFER_UTIL': '"1"',
    'process.env.WS_NO_UTF_8_VALIDATE': '"1"',
  },
  // The sources read their version through import.meta.url, which the bundle has no use for.
  logOverride: { 'empty-import-meta': 'silent' },
  logLevel: 'warning',
});
await chmod(temporary, 0o755);
// In one step: tests that run at the same time may build it too.
await rename(temporary, outfile);
