import type { Figure, Heading, Row } from './figure.ts';

/** The rows of a figure as text, in columns; what only some rows have to say comes last. */
export function table({ title, columns }: Pick<Figure, 'title' | 'columns'>, rows: readonly Row[]): string {
  const shown = Object.entries(columns) as [string, Heading][];
  const cells = [
    [title, ...shown.map(([, [heading]]) => heading), ''],
    ...rows.map(({ what, values, note = '' }) => [
      what,
      ...shown.map(([key, heading]) => cell(values, key, heading)),
      note,
    ]),
  ];
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)));
  const lines = cells.map((line) =>
    line
      // Names to the left, numbers to the right.
      .map((text, at) =>
        at === 0 || at === line.length - 1 ? text.padEnd(widths[at]!) : text.padStart(widths[at]!),
      )
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
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
