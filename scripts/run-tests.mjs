// Runs test files, the longest first; `node --test` sorts them by name. Started by scripts/test.mjs on the Node.js under
// test, in the root of the project. Arguments: how many files run at once, the limit of each in milliseconds, patterns.
import { globSync } from 'node:fs';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { longestFirst } from './test-order.mjs';

const [concurrency, timeout, ...patterns] = process.argv.slice(2);
const found = patterns.map((pattern) => globSync(pattern));
const missing = patterns.filter((_, at) => found[at].length === 0);
if (missing.length > 0) {
  console.error(`postern: no test file is called ${missing.join(' or ')}`);
  process.exit(1);
}
const files = longestFirst([...new Set(found.flat())]);

/** The time for interrupted files to end, and for the summary. */
const endMs = 3000;

const interruption = new AbortController();
const running = new Set();
const events = run({
  files,
  concurrency: Number(concurrency),
  timeout: Number(timeout),
  signal: interruption.signal,
});
// The name of the test of a whole file is its path.
events.on('test:dequeue', ({ nesting, name }) => {
  if (nesting === 0 && files.includes(name)) running.add(name);
});
events.on('test:complete', ({ nesting, name }) => {
  if (nesting === 0) running.delete(name);
});
events.on('test:fail', ({ todo }) => {
  if (todo === undefined || todo === false) process.exitCode = 1;
});
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
]) {
  process.once(signal, () => {
    console.error(`\nInterrupted while running:\n${[...running].join('\n')}\n`);
    process.once('exit', () => (process.exitCode = code));
    // Ends the files that run, and reports what there is. A file can ignore that, or be stopped: it is left behind.
    interruption.abort();
    setTimeout(() => process.exit(code), endMs).unref();
  });
}
events.compose(spec).pipe(process.stdout);
