/* global laterParts */
// Put by build.mjs between the parts that are texts and those that are always needed.
const { Script } = require('node:vm');

/** What the parts that are always needed export, once they have run. */
const usualParts = {};
const loaded = new Map();

function load(name) {
  if (!name.startsWith('./')) return require(name);
  if (Object.hasOwn(usualParts, name)) return usualParts[name];
  const before = loaded.get(name);
  if (before !== undefined) return before.exports;
  const part = { exports: {} };
  // Before it runs: two parts may need each other.
  loaded.set(name, part);
  const code = `(function(exports,require,module,__filename){${laterParts[name]}\n})`;
  const run = new Script(code, { filename: `${__filename}/${name.slice(2)}` }).runInThisContext();
  run(part.exports, load, part, __filename);
  return part.exports;
}
