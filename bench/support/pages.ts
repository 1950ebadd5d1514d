import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format } from 'prettier';
import type { Figure, Row } from './figure.ts';
import { root } from './gateway.ts';
import { rowsOf } from './results.ts';
import type { Run } from './results.ts';
import { sideBySide, sideBySideTable } from './side-by-side.ts';
import { draw } from './svg.ts';
import { markdownTable, number } from './table.ts';
import { groups } from './variants.ts';

const page = 'docs/performance.md';
const drawing = 'docs/figures/side-by-side.svg';
const [begin, end] = ['<!-- Written by `npm run bench -- --write`. -->', '<!-- Up to here. -->'];

/** Writes the numbers of a run to the page, and draws them. */
export async function writePages(run: Run, figures: readonly Figure[]): Promise<void> {
  mkdirSync(join(root, 'docs/figures'), { recursive: true });
  writeFileSync(join(root, drawing), drawRun(run));
  const file = join(root, page);
  const filled = fillIn(readFileSync(file, 'utf8'), describe(run, figures));
  writeFileSync(file, await format(filled, { parser: 'markdown', printWidth: 110 }));
  console.log(`postern: wrote ${page} and ${drawing}`);
}

/** The page with other numbers. */
export function fillIn(text: string, numbers: string): string {
  const [before, rest] = text.split(begin);
  const after = rest?.split(end)[1];
  if (after === undefined) throw new Error(`${page} has no place for numbers`);
  return `${before}${begin}\n\n${numbers}\n${end}${after}`;
}

/** Everything that a run has measured, in Markdown. */
export function describe(run: Run, figures: readonly Figure[]): string {
  const { machine, rivals } = run;
  const known = figures.filter(({ name }) => name in run.figures);
  const versions = Object.entries(rivals).map(([name, version]) => `${name} ${version}`);
  return [
    `Run of ${run.at.slice(0, 10)}, commit ${run.commit}${run.isDirty ? ' with uncommitted changes' : ''}${run.quick ? ', quick' : ''}:
${machine.cpus} × ${machine.cpu}, ${machine.memoryGiB} GiB, Linux ${machine.kernel}, Node.js ${run.node};
load before it ${run.load.toFixed(2)}. Debian's packages: ${versions.join(', ')}.\n`,
    markdownTable(sideBySideTable, together(run)),
    ...known.map((figure) => markdownTable(figure, rowsOf(run.figures[figure.name]!))),
  ].join('\n');
}

/** The drawing of a run. */
export function drawRun(run: Run): string {
  const rows = together(run).filter(({ what }) => what !== 'direct');
  return draw({
    title: 'What a byte, a keystroke and a tunnel cost',
    description: `CPU seconds per GiB to the client and to the target, milliseconds added to a keystroke compared with a direct connection, and peak memory. ${rows.map(inWords).join(' ')}`,
    columns: [
      { key: 'downCpu', heading: ['CPU s per GiB', 'target → client'], digits: 2, isBar: true },
      { key: 'upCpu', heading: ['CPU s per GiB', 'client → target'], digits: 2, isBar: true },
      { key: 'addedMedianMs', heading: ['keystroke, ms', 'more than direct'], digits: 2, isBar: false },
      { key: 'rssMiB', heading: ['peak memory', 'MiB'], digits: 0, isBar: false },
    ],
    rows,
    isOurs: ({ what }) => what.startsWith('Postern'),
    footnote: `Lower is better. One run on loopback, medians; ${run.machine.cpu}, Node.js ${run.node}, ${run.at.slice(0, 10)}.`,
  });
}

function inWords({ what, values }: Row): string {
  const [down, up] = [number(values['downCpu'], 2), number(values['upCpu'], 2)];
  return `${what}: ${down}, ${up}, ${number(values['addedMedianMs'], 2)}, ${number(values['rssMiB'], 0)}.`;
}

function together({ figures }: Run): readonly Row[] {
  const rows = sideBySide(rowsOf(figures['bulk'] ?? []), rowsOf(figures['keystroke'] ?? []));
  // As the variants are in the order of their kinds.
  return Object.values(groups).flatMap((group) => rows.filter((row) => row.group === group));
}
