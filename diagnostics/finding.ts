import type { TunnelErrorCode } from '../protocol/errors.ts';

/**
 * What a check comes to. `good`: it is as it should be. `costly`: sessions work, but something is lost by it.
 * `failed`: it has to be put right. `unchecked`: nobody knows, and `what` says why.
 */
export type CheckStatus = 'good' | 'costly' | 'failed' | 'unchecked';

/** What one check of a doctor has found: one line of the screen, and two more when there is something to do. */
export interface Finding {
  /** For programs; never changes. */
  readonly check: string;
  /** For people. */
  readonly title: string;
  readonly verdict: CheckStatus;
  readonly what: string;
  /** The same for strangers, where `what` holds something that they need not know. */
  readonly shared?: string;
  /** What it means for somebody who knows nothing of proxies. */
  readonly meaning?: string;
  /** What to do. */
  readonly advice?: string;
  /** Lines to copy, below the advice. */
  readonly lines?: readonly string[];
  readonly code?: TunnelErrorCode;
}

/** What a terminal can show. */
export interface FindingStyle {
  readonly isUnicode: boolean;
  readonly isColored: boolean;
}

/**
 * Colours for terminals that have them and are not asked to do without (NO_COLOR), and the signs of Unicode where the
 * language of the environment has them.
 */
export function findingStyle(
  env: Readonly<Record<string, string | undefined>>,
  isTerminal: boolean,
): FindingStyle {
  const isOn = (name: string): boolean => (env[name] ?? '') !== '';
  const language = env[['LC_ALL', 'LC_CTYPE', 'LANG'].find(isOn) ?? ''];
  return {
    // Windows Terminal has no such variables, and knows them all.
    isUnicode: language === undefined ? isOn('WT_SESSION') : /utf-?8/i.test(language),
    isColored: isTerminal && !isOn('NO_COLOR') && env['TERM'] !== 'dumb',
  };
}

const signs: Readonly<Record<CheckStatus, { readonly unicode: string; readonly ascii: string; color: number }>> =
  {
    good: { unicode: '✓', ascii: 'ok  ', color: 32 },
    costly: { unicode: '!', ascii: 'note', color: 33 },
    failed: { unicode: '✗', ascii: 'FAIL', color: 31 },
    unchecked: { unicode: '–', ascii: 'skip', color: 2 },
  };

const titleWidth = 13;
const lineWidth = 100;

/** A finding as lines for people, with a line feed at the end of each. */
export function formatFinding(finding: Finding, style: FindingStyle): string {
  const { title, verdict, what, meaning, advice, lines = [], code } = finding;
  const sign = signs[verdict];
  const shown = style.isUnicode ? sign.unicode : sign.ascii;
  const colored = style.isColored ? `\x1b[${sign.color}m${shown}\x1b[0m` : shown;
  const indent = ' '.repeat(shown.length + titleWidth + 2);
  const below = [
    ...(meaning === undefined ? [] : [`It means: ${meaning}`]),
    ...(advice === undefined ? [] : [`To do: ${advice}`]),
  ];
  const text = [code === undefined ? what : `${what} (${code})`, ...below]
    .map((part) => plainer(part, style))
    .map((part) => wrap(part, lineWidth - indent.length).join(`\n${indent}`))
    .join(`\n${indent}`);
  const copied = lines.map((line) => `${indent}    ${plainer(line, style)}\n`).join('');
  return `${colored} ${title.padEnd(titleWidth)} ${text}\n${copied}`;
}

/** `text` for this terminal: without what only some fonts and encodings have. */
export function plainer(text: string, { isUnicode }: FindingStyle): string {
  if (isUnicode) return text;
  return text
    .replaceAll('–', '-')
    .replaceAll('…', '...')
    .replaceAll(/[^\x20-\x7e\n]/gu, (c) => `\\u${c.codePointAt(0)!.toString(16).padStart(4, '0')}`);
}

/** Breaks at spaces only: a URL or a command stays whole. */
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

/** The first finding that has to be put right. */
export function firstFailure(findings: readonly Finding[]): Finding | undefined {
  return findings.find(({ verdict }) => verdict === 'failed');
}
