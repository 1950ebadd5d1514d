// Bundles the client for Node.js 20 and later: dist/postern.cjs, and beside it dist/postern-pac.cjs for PAC files.
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';
import { build, transform } from 'esbuild';

const root = fileURLToPath(new URL('../..', import.meta.url));
const outfile = process.argv[2] ?? `${root}dist/postern.cjs`;
const { version } = JSON.parse(await readFile(`${root}package.json`, 'utf8'));

/** The sources that `connect` needs to begin a connection, and those it needs afterwards. */
const first = ['client/commands/connect.ts'];
const second = [
  'client/connect/run-tunnel.ts',
  'client/entry/relay.ts',
  'client/carrier/websocket-connector.ts',
];

/**
 * `ws` without the parts that this client does not use: servers, compression, its own TLS. Our own masking replaces its
 * add-on, which it would look for beside the bundle, where another user could have put a file.
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
    // Our client does not enable compression, and supplies its own connection, so neither is ever called.
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

/** The options of both bundles. Names stay for stack traces. */
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node20',
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  // The sources read their version through import.meta.url, which the bundle does not need.
  logOverride: { 'empty-import-meta': 'silent' },
  logLevel: 'warning',
};

await write(outfile, 0o755, await client());

// The PAC sandbox is ten times as large and rarely needed: a file of its own, read only on demand.
const wasm = await readFile(fileURLToPath(new URL('../quickjs.wasm', import.meta.resolve('quickjs-wasi'))));
const pac = await build({
  ...common,
  entryPoints: ['client/egress/pac/pac-worker.ts'],
  format: 'cjs',
  write: false,
  define: { POSTERN_QUICKJS: JSON.stringify(pack(wasm)) },
});
await write(join(dirname(outfile), 'postern-pac.cjs'), 0o644, pac.outputFiles[0].text);

/**
 * One file to copy, in parts: V8 reads all of a program's text before it runs the first line, and most of this one is
 * for commands other than `connect`. Those parts are compressed, and compiled on demand.
 */
async function client() {
  const { outputFiles, metafile } = await build({
    ...common,
    entryPoints: ['client/main.ts'],
    format: 'esm',
    splitting: true,
    outdir: 'parts',
    write: false,
    metafile: true,
    plugins: [leanWebSocket],
    define: {
      POSTERN_VERSION: JSON.stringify(version),
      // `ws` would look for this add-on beside the bundle, where another user could have put a file.
      'process.env.WS_NO_UTF_8_VALIDATE': '"1"',
    },
  });
  const parts = new Map(outputFiles.map(({ path, text }) => [partName(path), text]));
  const begun = closure(metafile.outputs, first);
  const then = closure(metafile.outputs, second).filter((name) => !begun.includes(name));
  const later = [];
  for (const [name, text] of parts)
    if (![...begun, ...then, './main.js'].includes(name)) later.push(entryOf(name, await asCommonJs(text)));
  const loader = await readFile(new URL('parts.cjs', import.meta.url), 'utf8');
  const main = await asCommonJs(parts.get('./main.js'));
  // The brackets tell V8 that these functions are called immediately.
  return `#!/usr/bin/env node
"use strict";
const secondNames=${JSON.stringify(then)},secondText=${JSON.stringify(await together(then, parts))};
const laterPacked=${JSON.stringify(pack(`{${later.join()}}`))};
const runFirst=(function(require,usualParts){${await together(begun, parts)}});
const runMain=(function(require){${main}});
${(await transform(loader, pick(common))).code}`;
}

function pack(bytes) {
  // A tenth larger than at the best quality, in a tenth of the time.
  const params = { [constants.BROTLI_PARAM_QUALITY]: 9 };
  return brotliCompressSync(bytes, { params }).toString('base64');
}

function entryOf(name, code) {
  return `${JSON.stringify(name)}:${JSON.stringify(code)}`;
}

/** One text for parts that are always needed together; the other parts get their exports through `usualParts`. */
async function together(names, parts) {
  const imports = names.map((name, at) => `import * as part${at} from ${JSON.stringify(name)};`);
  const exports = names.map((name, at) => `${JSON.stringify(name)}: part${at}`);
  const { outputFiles } = await build({
    ...common,
    stdin: {
      contents: `${imports.join('')}Object.assign(usualParts, {${exports.join()}});`,
      resolveDir: root,
    },
    format: 'cjs',
    write: false,
    supported: { 'dynamic-import': false },
    plugins: [
      {
        name: 'parts',
        setup(building) {
          building.onResolve({ filter: /^\.\// }, ({ path, kind }) =>
            kind === 'dynamic-import' || !names.includes(path)
              ? { path, external: true }
              : { path, namespace: 'part' },
          );
          building.onLoad({ filter: /./, namespace: 'part' }, ({ path }) => ({ contents: parts.get(path) }));
        },
      },
    ],
  });
  return outputFiles[0].text;
}

function pick({ target, platform, minifySyntax, minifyWhitespace }) {
  return { target, platform, minifySyntax, minifyWhitespace };
}

/** Turns `import()` into a `require` that returns a promise. */
async function asCommonJs(text) {
  const { code } = await transform(text, {
    ...pick(common),
    format: 'cjs',
    supported: { 'dynamic-import': false },
    logOverride: common.logOverride,
  });
  return code;
}

function partName(path) {
  return `./${path.slice(path.lastIndexOf('/') + 1)}`;
}

/** The parts of these sources with everything they import, each after the parts that it needs. */
function closure(outputs, sources) {
  const names = new Set();
  const seen = new Set();
  const add = (path) => {
    if (seen.has(path)) return;
    seen.add(path);
    for (const { kind, external, path: next } of outputs[path].imports)
      if (kind === 'import-statement' && !external) add(next);
    names.add(partName(path));
  };
  for (const source of sources) add(Object.keys(outputs).find((path) => outputs[path].entryPoint === source));
  return [...names];
}

async function write(file, mode, content) {
  const temporary = `${file}.${process.pid}.tmp`;
  await mkdir(dirname(file), { recursive: true });
  await writeFile(temporary, content);
  await chmod(temporary, mode);
  // Atomic: tests that run at the same time can build it too.
  await rename(temporary, file);
}
