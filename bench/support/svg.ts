import type { Row } from './figure.ts';
import { number } from './table.ts';

/** A column of the drawing. */
export interface DrawnColumn {
  readonly key: string;
  readonly heading: readonly [first: string, second: string];
  readonly digits: number;
  /** Shown as a length as well. */
  readonly isBar: boolean;
}

export interface Drawing {
  readonly title: string;
  /** The text alternative, for screen readers. */
  readonly description: string;
  readonly columns: readonly DrawnColumn[];
  readonly rows: readonly Row[];
  /** Those that stand out. */
  readonly isOurs: (row: Row) => boolean;
  readonly footnote: string;
}

const nameWidth = 280;
const barWidth = 186;
const numberWidth = 116;
const rowHeight = 22;
const margin = 18;
/** Room for the number behind a bar. */
const labelWidth = 48;

/** Draws rows as an SVG of its own, for light and for dark pages. */
export function draw({ title, description, columns, rows, isOurs, footnote }: Drawing): string {
  const lefts = columns.map((_, at) =>
    columns.slice(0, at).reduce((left, { isBar }) => left + widthOf(isBar), margin + nameWidth),
  );
  const width = columns.reduce((sum, { isBar }) => sum + widthOf(isBar), 2 * margin + nameWidth);
  const parts: string[] = [];
  let y = 34;
  parts.push(text(margin, y, 'h', title));
  y += 30;
  columns.forEach(({ heading, isBar }, at) => {
    heading.forEach((line, index) =>
      parts.push(label(lefts[at]!, y + index * 15, { isBar, kind: 'm', line })),
    );
  });
  y += 18;
  rows.forEach((row, at) => {
    if (row.group !== undefined && row.group !== rows[at - 1]?.group) {
      y += 28;
      parts.push(text(margin, y, 'g', row.group));
      y += 4;
    }
    y += rowHeight;
    const kind = isOurs(row) ? 'o' : 't';
    parts.push(text(margin, y, kind, row.what));
    columns.forEach((column, index) => {
      const maximum = maxOf(rows, row.group, columns);
      parts.push(...cell(column, { row, maximum, left: lefts[index]!, y, kind }));
    });
  });
  y += 32;
  parts.push(text(margin, y, 'm', footnote));
  const height = y + margin;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="t d">
<title id="t">${escapeXml(title)}</title>
<desc id="d">${escapeXml(description)}</desc>
<style>
text{font:13px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2328;font-variant-numeric:tabular-nums}
.h{font-size:16px;font-weight:600}.g{font-weight:600;fill:#59636e}.m{font-size:12px;fill:#59636e}.o{font-weight:600;fill:#0550ae}.e{text-anchor:end}
.p{fill:#fff;stroke:#d1d9e0}.b{fill:#afb8c1}.c{fill:#0969da}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.g,.m{fill:#9198a1}.o{fill:#79c0ff}.p{fill:#0d1117;stroke:#3d444d}.b{fill:#656c76}.c{fill:#4493f8}}
</style>
<rect class="p" x=".5" y=".5" width="${width - 1}" height="${height - 1}" rx="8"/>
${parts.join('\n')}
</svg>
`;
}

/** The largest number that is a bar among rows of one group: their bars are on one scale, in all columns. */
function maxOf(rows: readonly Row[], group: string | undefined, columns: readonly DrawnColumn[]): number {
  const keys = columns.filter(({ isBar }) => isBar).map(({ key }) => key);
  const compared = rows.filter((row) => row.group === group);
  return Math.max(
    ...compared.flatMap(({ values }) => keys.map((key) => values[key] ?? 0)).filter(Number.isFinite),
  );
}

interface Plot {
  readonly row: Row;
  /** The value of the longest bar. */
  readonly maximum: number;
  readonly left: number;
  readonly y: number;
  readonly kind: 'o' | 't';
}

function cell({ key, digits, isBar }: DrawnColumn, { row, maximum, left, y, kind }: Plot): readonly string[] {
  const value = row.values[key];
  const digitsText = number(value, digits);
  if (!isBar || digitsText === '–') return [label(left, y, { isBar, kind, line: digitsText })];
  const length = Math.max(1, Math.round((value! / maximum) * (barWidth - labelWidth - 12)));
  return [
    `<rect class="${kind === 'o' ? 'c' : 'b'}" x="${left}" y="${y - 11}" width="${length}" height="13" rx="2"/>`,
    text(left + length + 6, y, kind, digitsText),
  ];
}

/** At a bar's beginning, or where the numbers of its column end. */
function label(
  left: number,
  y: number,
  { isBar, kind, line }: { readonly isBar: boolean; readonly kind: string; readonly line: string },
): string {
  return isBar ? text(left, y, kind, line) : text(left + numberWidth - 12, y, `${kind} e`, line);
}

function text(x: number, y: number, kind: string, line: string): string {
  return `<text x="${x}" y="${y}"${kind === 't' ? '' : ` class="${kind}"`}>${escapeXml(line)}</text>`;
}

function widthOf(isBar: boolean): number {
  return isBar ? barWidth : numberWidth;
}

/** Whatever a text has in it, it stays a text; what XML 1.0 cannot have at all (its section 2.2) is left out. */
export function escapeXml(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, '')
    .replaceAll(/[&<>"']/g, (character) => entities[character]!);
}

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
