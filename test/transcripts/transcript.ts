// A transcript reads like a terminal: `$ command`, then what it prints, both streams as they come, then `[exit 2]` where
// it fails. `…` in a line stands for any text of that line, a line of `…` alone for any lines. Lines before the first
// command are prose, as are lines that begin with `#`.

/** One command of a transcript and what it is expected to print. */
export interface Step {
  /** Without `$ `; a command goes on in the next line after a `\`, and with `> ` in front for here-documents. */
  readonly command: string;
  readonly expected: readonly string[];
  readonly exit: number;
  /** Of the command, from 1 on. */
  readonly line: number;
}

/** Throws where a line of a command's continuation or an exit status cannot be read. */
export function parseTranscript(text: string): readonly Step[] {
  const steps: { command: string; expected: string[]; exit: number; line: number }[] = [];
  for (const [index, line] of text.trimEnd().split('\n').entries()) {
    const step = steps.at(-1);
    if (line.startsWith('$ ')) {
      steps.push({ command: line.slice(2), expected: [], exit: 0, line: index + 1 });
    } else if (step === undefined || line.startsWith('#')) continue;
    else if (line.startsWith('> ') && step.expected.length === 0) step.command += `\n${line.slice(2)}`;
    else if (/^\[exit \d+\]$/.test(line)) step.exit = Number(line.slice(6, -1));
    else step.expected.push(line);
  }
  return steps.map((step) => ({ ...step, expected: trimEmpty(step.expected) }));
}

function trimEmpty(lines: readonly string[]): readonly string[] {
  const from = lines.findIndex((line) => line !== '');
  if (from === -1) return [];
  return lines.slice(from, lines.findLastIndex((line) => line !== '') + 1);
}

/** Where the output is another one than was expected; undefined when it is not. */
export function difference(step: Step, output: string): string | undefined {
  const actual = trimEmpty(output.trimEnd().split('\n'));
  const pattern = step.expected
    .map((line) => (line === '…' ? '(?:[^\\n]*\\n)*' : `${linePattern(line)}\\n`))
    .join('');
  const all = actual.length === 0 ? '' : `${actual.join('\n')}\n`;
  if (new RegExp(`^${pattern}$`).test(all)) return undefined;
  const at = step.expected.findIndex(
    (line, index) => line === '…' || !new RegExp(`^${linePattern(line)}$`).test(actual[index] ?? '\n'),
  );
  const where =
    at === -1
      ? 'after the last line'
      : `expected: ${step.expected[at]}\n     got: ${actual[at] ?? 'nothing'}`;
  return `${where}\n\nthe whole output:\n${all}`;
}

function linePattern(line: string): string {
  const parts = line.split('…').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
  return parts.join(String.raw`[^\n]*`);
}
