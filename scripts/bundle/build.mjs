// Bundles the client for Node.js 20 and later: dist/postern.cjs, and beside it dist/postern-pac.cjs for PAC files.
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';
import { build } from 'esbuild';
import { refuseUnknownFlags } from '../arguments.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
await refuseUnknownFlags('the build of the client', process.argv.slice(2), []);
const outfile = process.argv[2] ?? `${root}dist/postern.cjs`;
const { version } = JSON.parse(await readFile(`${root}package.json`, 'utf8'));

/**
 * `ws` without the parts that the client does not use: servers, compression, its own TLS. The masking of this project
 * replaces its native add-on, which it would look for beside the bundle, where an attacker could have put something.
 */
const leanWebSocket = {
  name: 'lean-web-socket',
  setup(building) {
    const folder = dirname(createRequire(import.meta.url).resolve('ws'));
    building.onResolve({ filter: /^ws$/ }, () => ({ path: 'ws', namespace: 'lean' }));
    building.onLoad({ filter: /^ws$/, namespace: 'lean' }, () => ({
      contents: `export { default as WebSocket } from ${JSON.stringify(join(folder, 'lib/websocket.js'))};`,
      resolveDir: folder,
    }));
    // The client never negotiates compression, and brings its own connection, so `https` is never called.
    building.onResolve({ filter: /^(?:\.\/permessage-deflate|https|bufferutil)$/ }, ({ path, importer }) =>
      importer.startsWith(folder) ? { path, namespace: 'lean-part' } : undefined,
    );
    building.onLoad({ filter: /./, namespace: 'lean-part' }, ({ path }) => ({
      contents: leanParts[path],
      resolveDir: root,
    }));
  },
};

const leanParts = {
  './permessage-deflate': `module.exports = class { static extensionName = 'permessage-deflate'; };`,
  https: `module.exports = require('http');`,
  bufferutil: `module.exports = require('./client/entry/mask.ts');`,
};

/** The options of both files. Identifiers are kept for stack traces. */
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node20',
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  // The sources read their version through import.meta.url; the bundle has it built in.
  logOverride: { 'empty-import-meta': 'silent' },
  logLevel: 'warning',
};

await write(outfile, 0o755, await client());

// The PAC runner is ten times as large and seldom needed: a file of its own, which is read only then.
const wasm = await readFile(fileURLToPath(new URL('../quickjs.wasm', import.meta.resolve('quickjs-wasi'))));
const pac = await build({
  ...common,
  entryPoints: ['client/egress/pac/pac-worker.ts'],
  format: 'cjs',
  write: false,
  define: { POSTERN_QUICKJS: JSON.stringify(pack(wasm)) },
});
await write(join(dirname(outfile), 'postern-pac.cjs'), 0o644, pac.outputFiles[0].text);

/** One file to copy. Each source runs when it is first imported, so `connect` runs only what it needs. */
async function client() {
  const { outputFiles } = await build({
    ...common,
    entryPoints: ['client/main.ts'],
    format: 'cjs',
    write: false,
    plugins: [leanWebSocket],
    define: {
      POSTERN_VERSION: JSON.stringify(version),
      // `ws` would look for this add-on beside the bundle, where an attacker could have put something.
      'process.env.WS_NO_UTF_8_VALIDATE': '"1"',
    },
  });
  return `#!/usr/bin/env node\n${outputFiles[0].text}`;
}

function pack(bytes) {
  // A tenth larger than at the best quality, in a tenth of the time.
  const params = { [constants.BROTLI_PARAM_QUALITY]: 9 };
  return brotliCompressSync(bytes, { params }).toString('base64');
}

async function write(file, mode, content) {
  const temporary = `${file}.${process.pid}.tmp`;
  await mkdir(dirname(file), { recursive: true });
  await writeFile(temporary, content);
  await chmod(temporary, mode);
  // Atomic: tests that run at the same time can build it too.
  await rename(temporary, file);
}
