// Bundles the client for every Node from 20 on: dist/postern.cjs, and beside it dist/postern-pac.cjs for PAC files.
import { chmod, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const outfile = process.argv[2] ?? `${root}dist/postern.cjs`;
const { version } = JSON.parse(await readFile(`${root}package.json`, 'utf8'));

/** What both files have in common. */
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node20',
  // Names stay for stack traces.
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: true,
  legalComments: 'none',
  // The sources read their version through import.meta.url, which the bundle has no use for.
  logOverride: { 'empty-import-meta': 'silent' },
  logLevel: 'warning',
};

await buildFile(outfile, 0o755, {
  entryPoints: ['client/main.ts'],
  format: 'cjs',
  banner: { js: '#!/usr/bin/env node' },
  define: {
    POSTERN_VERSION: JSON.stringify(version),
    // `ws` would look for these add-ons beside the bundle, where somebody else may have put something.
    'process.env.WS_NO_BUFFER_UTIL': '"1"',
    'process.env.WS_NO_UTF_8_VALIDATE': '"1"',
  },
});

// What runs PAC files is ten times as large and seldom needed: a file of its own, which only then is read.
const wasm = await readFile(fileURLToPath(new URL('../quickjs.wasm', import.meta.resolve('quickjs-wasi'))));
// A tenth larger than the best, in a tenth of the time.
const packed = brotliCompressSync(wasm, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } });
await buildFile(join(dirname(outfile), 'postern-pac.cjs'), 0o644, {
  entryPoints: ['client/egress/pac-worker.ts'],
  format: 'cjs',
  define: { POSTERN_QUICKJS: JSON.stringify(packed.toString('base64')) },
});

async function buildFile(file, mode, options) {
  const temporary = `${file}.${process.pid}.tmp`;
  await build({ ...common, ...options, outfile: temporary });
  await chmod(temporary, mode);
  // In one step: tests that run at the same time may build it too.
  await rename(temporary, file);
}
