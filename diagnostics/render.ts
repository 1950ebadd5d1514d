import type { CheckStatus, Finding } from './finding.ts';

/** The capabilities of a terminal. */
export interface FindingStyle {
  readonly isUnicode: boolean;
  readonly isColored: boolean;
}

/**
 * Colours for terminals that have them, unless NO_COLOR is set, and Unicode signs where the locale of the environment
 * has them.
 */
export function findingStyle(
  env: Readonly<Record<string, string | undefined>>,
  isTerminal: boolean,
): FindingStyle {
  const isOn = (name: string): boolean => (env[name] ?? '') !== '';
  const language = env[['LC_ALL', 'LC_CTYPE', 'LANG'].find(isOn) ?? ''];
  return {
    // Windows Terminal sets no locale, and shows all of Unicode.
    isUnicode: language === undefined ? isOn('WT_SESSION') : /utf-?8/i.test(language),
    isColored: isTerminal && !isOn('NO_COLOR') && env['TERM'] !== 'dumb',
  };
}

const signs: Readonly<
  Record<CheckStatus, { readonly unicode: string; readonly ascii: string; color: number }>
> = {
  ok: { unicode: '✓', ascii: 'ok  ', color: 32 },
  warning: { unicode: '!', ascii: 'note', color: 33 },
  error: { unicode: '✗', ascii: 'FAIL', color: 31 },
  skipped: { unicode: '–', ascii: 'skip', color: 2 },
};

const titleWidth = 13;
const lineWidth = 100;

/** Formats a finding as lines for people, with a line feed at the end of each. */
export function formatFinding(finding: Finding, style: FindingStyle): string {
  const { title, status, what, meaning, advice, lines = [], code } = finding;
  const sign = signs[status];
  const mark = style.isUnicode ? sign.unicode : sign.ascii;
  const colored = style.isColored ? `\x1b[${sign.color}m${mark}\x1b[0m` : mark;
  const indent = ' '.repeat(mark.length + titleWidth + 2);
  const below = [
    ...(meaning === undefined ? [] : [`Meaning: ${meaning}`]),
    ...(advice === undefined ? [] : [`Fix: ${advice}`]),
  ];
  const text = [code === undefined ? what : `${what} (${code})`, ...below]
    .map((part) => plainer(part, style))
    .map((part) => wrap(part, lineWidth - indent.length).join(`\n${indent}`))
    .join(`\n${indent}`);
  const copied = lines.map((line) => `${indent}    ${plainer(line, style)}\n`).join('');
  return `${colored} ${title.padEnd(titleWidth)} ${text}\n${copied}`;
}

/** `text` for this terminal: characters that it cannot show are escaped. */
export function plainer(text: string, { isUnicode }: FindingStyle): string {
  if (isUnicode) return text;
  return text
    .replaceAll('–', '-')
    .replaceAll('…', '...')
    .replaceAll(/[^\x20-\x7e\n]/gu, (c) => `\\u${c.codePointAt(0)!.toString(16).padStart(4, '0')}`);
}

/** Breaks lines at spaces only: a URL or a command stays whole. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** The key and the words of `--json` for a status; programs rely on them. */
const jsonStatusKey = 'verdict';
const jsonWords = {
  ok: 'good',
  warning: 'costly',
  error: 'failed',
  skipped: 'unchecked',
} as const satisfies Record<CheckStatus, string>;

/** The status of a finding in `--json`, in its field `verdict`. */
export type JsonStatus = (typeof jsonWords)[CheckStatus];

/** A finding as `--json` prints it. */
export type JsonFinding = Omit<Finding, 'status'> & { readonly [jsonStatusKey]: JsonStatus };

export function toJsonFinding({ check, title, status, ...rest }: Finding): JsonFinding {
  return { check, title, [jsonStatusKey]: jsonWords[status], ...rest };
}
