/* global runFirst, runMain, secondNames, secondText, laterPacked */
// Appended by build.mjs to the parts of the client: runs the first ones, and loads the others on demand.
const { Script } = require('node:vm');

/** The exports of the parts that are always needed, once they have run. */
const usualParts = {};
const loaded = new Map();
let laterTexts;

runFirst(load, usualParts);
runMain(load);

function load(name) {
  if (!name.startsWith('./')) return require(name);
  if (secondNames.includes(name) && !Object.hasOwn(usualParts, name))
    compile('second', secondText)(undefined, load, undefined, __filename, usualParts);
  if (Object.hasOwn(usualParts, name)) return usualParts[name];
  const before = loaded.get(name);
  if (before !== undefined) return before.exports;
  const part = { exports: {} };
  // Before it runs, because two parts can need each other.
  loaded.set(name, part);
  laterTexts ??= unpack(laterPacked);
  compile(name.slice(2), laterTexts[name])(part.exports, load, part, __filename);
  return part.exports;
}

function compile(name, text) {
  const code = `(function(exports,require,module,__filename,usualParts){${text}\n})`;
  return new Script(code, { filename: `${__filename}/${name}` }).runInThisContext();
}

function unpack(text) {
  const { brotliDecompressSync } = require('node:zlib');
  return JSON.parse(brotliDecompressSync(Buffer.from(text, 'base64')).toString());
}
