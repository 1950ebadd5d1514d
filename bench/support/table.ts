import type { Figure, Heading, Row } from './figure.ts';

/** The rows of a figure as text, in columns; what only some rows have comes last. */
export function table({ title, columns }: Formatted, rows: readonly Row[]): string {
  const cells = [[title, ...headingsOf(columns), ''], ...rows.map((row) => cellsOf(columns, row))];
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)));
  const lines = cells.map((line) =>
    line
      // Names to the left, numbers to the right.
      .map((text, at) => {
        const isText = at === 0 || at === line.length - 1;
        return isText ? text.padEnd(widths[at]!) : text.padStart(widths[at]!);
      })
      .join('  ')
      .trimEnd(),
  );
  return `${withGroups(lines, rows, (group) => `-- ${group}`).join('\n')}\n`;
}

/** The same in Markdown. */
export function markdownTable({ title, columns }: Formatted, rows: readonly Row[]): string {
  // The last cell is for notes.
  const cut = rows.some(({ note }) => note) ? undefined : -1;
  const headings = ['', ...headingsOf(columns), ''].slice(0, cut);
  const line = (cells: readonly string[]): string => `| ${cells.map(escapeMarkdown).join(' | ')} |`;
  const lines = [
    line(headings),
    `| --- |${' --: |'.repeat(headingsOf(columns).length)}${cut === undefined ? ' --- |' : ''}`,
    ...rows.map((row) => line(cellsOf(columns, row).slice(0, cut))),
  ];
  const [heading, rule, ...rest] = lines as [string, string, ...string[]];
  const grouped = withGroups([heading, ...rest], rows, (group) => `| _${escapeMarkdown(group)}_ |`);
  return `**${escapeMarkdown(title)}**\n\n${[grouped[0], rule, ...grouped.slice(1)].join('\n')}\n`;
}

type Formatted = Pick<Figure, 'title' | 'columns'>;

function headingsOf(columns: Formatted['columns']): readonly string[] {
  return Object.values(columns).map((heading) => heading![0]);
}

function cellsOf(columns: Formatted['columns'], { what, values, note = '' }: Row): readonly string[] {
  const visible = Object.entries(columns) as [string, Heading][];
  return [what, ...visible.map(([key, heading]) => cell(values, key, heading)), note];
}

/** The heading and the lines of the rows, with a line before the first of each group. */
function withGroups(
  [heading, ...lines]: readonly string[],
  rows: readonly Row[],
  print: (group: string) => string,
): readonly string[] {
  return [
    heading!,
    ...lines.flatMap((line, at) => {
      const { group } = rows[at]!;
      return group === undefined || group === rows[at - 1]?.group ? [line] : [print(group), line];
    }),
  ];
}

function escapeMarkdown(text: string): string {
  return text.replaceAll(/[\\|<>_*`[\]]/g, (character) => `\\${character}`);
}

function cell(values: Row['values'], key: string, [, digits, range]: Heading): string {
  const one = number(values[key], digits);
  if (range === undefined || one === '–') return one;
  return `${one} (${range.map((each) => number(values[each], digits)).join('–')})`;
}

/** A dash where there is none. */
export function number(value: number | undefined, digits: number): string {
  return value === undefined || !Number.isFinite(value) ? '–' : value.toFixed(digits);
}
