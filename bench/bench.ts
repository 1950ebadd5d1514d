// `npm run bench [-- OPTIONS]`: figures, side by side, on this machine. A run is also one JSON line in bench/results.jsonl.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { bulk } from './bulk.ts';
import { clientBulk } from './client-bulk.ts';
import { comebacks } from './comeback.ts';
import { connects } from './connect.ts';
import { keystroke } from './keystroke.ts';
import { listens } from './listen.ts';
import { memory } from './memory.ts';
import { opens } from './opens.ts';
import { pages } from './pages.ts';
import { proxySignIns } from './proxy-sign-in.ts';
import { resumes } from './resume.ts';
import { slowReaders } from './slow-readers.ts';
import { sshs } from './ssh.ts';
import { starts } from './start.ts';
import type { Figure } from './support/figure.ts';
import { help, parseOptions } from './support/options.ts';
import { writePages } from './support/pages.ts';
import { describeRun, keep, newestWith, rowsOf, written } from './support/results.ts';
import type { WrittenRow } from './support/results.ts';
import { sideBySide, sideBySideTable } from './support/side-by-side.ts';
import { table } from './support/table.ts';
import { stopVariants } from './support/variants.ts';
import { workers } from './workers.ts';

/**
 * In the order in which they are measured. Those that open thousands of connections come last: for a minute they stay in the
 * kernel's tables, which `postern listen` has to read.
 */
const figures: readonly Figure[] = [
  bulk,
  keystroke,
  connects,
  starts,
  clientBulk,
  sshs,
  proxySignIns,
  pages,
  listens,
  resumes,
  comebacks,
  opens,
  memory,
  slowReaders,
  workers,
];

const options = parseOptions(
  process.argv.slice(2),
  figures.map(({ name }) => name),
);
if (typeof options === 'string') {
  console.error(`postern: ${options}`);
  process.exit(2);
}
if (options.help) console.log(help);
else if (options.list) for (const { name, title } of figures) console.log(`${name.padEnd(16)}${title}`);
else if (options.write) await writeNewest();
else await measure(options);
// What figures have left open does not matter any more.
process.exit();

async function measure({ quick, only, cpuProf }: Exclude<typeof options, string>): Promise<void> {
  const profiles = cpuProf ? join(import.meta.dirname, 'profiles') : undefined;
  if (profiles !== undefined) mkdirSync(profiles, { recursive: true });
  const run = describeRun(quick);
  const results: Record<string, readonly WrittenRow[]> = {};
  const failed: Record<string, string> = {};
  const startedAt = performance.now();
  for (const figure of figures.filter(({ name }) => only.length === 0 || only.includes(name))) {
    const folder = mkdtempSync(join(tmpdir(), 'postern-bench-'));
    const before = performance.now();
    try {
      if (!figure.usesVariants) await stopVariants();
      const rows = await figure.measure({ quick, folder, profiles });
      results[figure.name] = written(rows);
      console.log(table(figure, rows));
    } catch (error) {
      // The others are worth something without it.
      failed[figure.name] = (error as Error).message;
      console.error(`postern: ${figure.name} failed:`, error);
      process.exitCode = 1;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    console.error(`postern: ${figure.name} took ${secondsSince(before)} s\n`);
  }
  await stopVariants();
  const { bulk: carried, keystroke: typed } = results;
  if (carried && typed) console.log(table(sideBySideTable, sideBySide(rowsOf(carried), rowsOf(typed))));
  keep({ ...run, figures: results, failed });
  if (profiles !== undefined) console.error(`postern: profiles for Chromium's DevTools are in ${profiles}`);
  console.error(`postern: ${secondsSince(startedAt)} s in all; written to bench/results.jsonl`);
}

async function writeNewest(): Promise<void> {
  const run = newestWith(['bulk', 'keystroke']);
  if (run !== undefined) return writePages(run, figures);
  console.error('postern: no run in bench/results.jsonl has bulk and keystroke');
  process.exitCode = 1;
}

function secondsSince(at: number): string {
  return ((performance.now() - at) / 1000).toFixed(0);
}
