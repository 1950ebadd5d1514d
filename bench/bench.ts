// `npm run bench [-- --quick] [-- --only NAME]`: figures, side by side, on this machine. A run is also one JSON line in
// bench/results.jsonl.
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { bulk } from './bulk.ts';
import { connects } from './connect.ts';
import { keystroke } from './keystroke.ts';
import { listens } from './listen.ts';
import { memory } from './memory.ts';
import { opens } from './opens.ts';
import { pages } from './pages.ts';
import { proxySignIns } from './proxy-sign-in.ts';
import { rejoins } from './rejoin.ts';
import type { Figure, Row } from './support/figure.ts';
import { workers } from './workers.ts';

const figures: readonly Figure[] = [
  opens,
  connects,
  proxySignIns,
  pages,
  bulk,
  keystroke,
  memory,
  rejoins,
  listens,
  workers,
];

const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, only: { type: 'string', multiple: true } },
});
const names = figures.map(({ name }) => name);
const unknown = values.only?.find((name) => !names.includes(name));
if (unknown !== undefined) {
  console.error(`postern: there is no figure ${unknown}; there are ${names.join(', ')}`);
  process.exit(2);
}

const run = {
  at: new Date().toISOString(),
  quick: values.quick,
  node: process.version,
  cpu: cpus()[0]?.model,
  cpus: cpus().length,
  // What else the machine was doing says how much the figures are worth.
  load: loadavg()[0],
};
const results: Record<string, readonly object[]> = {};
for (const figure of figures) {
  if (values.only !== undefined && !values.only.includes(figure.name)) continue;
  const folder = mkdtempSync(join(tmpdir(), 'postern-bench-'));
  try {
    const rows = await figure.measure({ quick: values.quick, folder });
    console.log(table(figure, rows));
    results[figure.name] = rows.map(({ what, values }) => ({ what, ...values }));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
const line = JSON.stringify({ ...run, figures: results });
appendFileSync(join(import.meta.dirname, 'results.jsonl'), `${line}\n`);
console.log(line);

function table({ title, columns }: Figure, rows: readonly Row[]): string {
  const shown = Object.entries(columns);
  const lines = [
    [title, ...shown.map(([, [heading]]) => heading)],
    ...rows.map(({ what, values }) => [
      what,
      ...shown.map(([key, [, digits]]) => values[key]!.toFixed(digits)),
    ]),
  ];
  return lines.map((line) => `${line.join('\t')}\n`).join('');
}
