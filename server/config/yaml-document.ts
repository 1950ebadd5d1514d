import { LineCounter, isAlias, isMap, isNode, isScalar, isSeq, parseDocument, visit } from 'yaml';
import type { Document, Node, Pair } from 'yaml';
import type { ConfigProblem } from './config-error.ts';

/** Names a setting: keys and positions from the top. */
export type SettingPath = readonly (string | number)[];

export interface Position {
  readonly line: number;
  readonly column: number;
}

/** A config file as plain values, which still knows where each of them stands. */
export interface ConfigDocument {
  readonly value: unknown;
  /** What is wrong with the text itself; `value` is undefined then. */
  readonly problems: readonly ConfigProblem[];
  /** Where the setting stands, or what is nearest around it. */
  locate(path: SettingPath): Position | undefined;
}

const maxLength = 1024 * 1024;
const maxAliasCount = 100;

/** Reads YAML 1.2 (core schema, one document, keys that are text). Never throws. */
export function readDocument(text: string, file: string): ConfigDocument {
  const lines = new LineCounter();
  if (text.length > maxLength) {
    return unreadable([{ file, path: '', message: `the file is longer than ${maxLength} characters` }]);
  }
  try {
    const document = parseDocument(text, {
      lineCounter: lines,
      prettyErrors: false,
      strict: true,
      stringKeys: true,
      uniqueKeys: true,
      version: '1.2',
      schema: 'core',
    });
    const problems = textProblems(document).map(({ at, message }) => ({
      file,
      ...place(lines, at),
      path: '',
      message,
    }));
    if (problems.length > 0) return unreadable(problems);
    return {
      value: document.toJS({ maxAliasCount }) as unknown,
      problems: [],
      locate: (path) => place(lines, offsetOf(document, path)),
    };
  } catch (error) {
    // Too many aliases, or brackets nested deeper than the stack.
    return unreadable([
      { file, path: '', message: `this cannot be read as YAML: ${(error as Error).message}` },
    ]);
  }
}

function unreadable(problems: readonly ConfigProblem[]): ConfigDocument {
  return { value: undefined, problems, locate: () => undefined };
}

interface TextProblem {
  readonly at: number;
  readonly message: string;
}

function textProblems(document: Document.Parsed): readonly TextProblem[] {
  // A warning is a tag or directive that would be ignored: what is ignored cannot be trusted either.
  const found: TextProblem[] = [...document.errors, ...document.warnings].map(({ pos, message }) => ({
    at: pos[0],
    message,
  }));
  visit(document, {
    Pair(_, pair) {
      if (keyOf(pair) !== '__proto__') return;
      found.push({ at: startOf(pair.key) ?? 0, message: '__proto__ is not a key' });
    },
  });
  return found;
}

function place(lines: LineCounter, offset: number | undefined): Position | undefined {
  if (offset === undefined) return undefined;
  const { line, col } = lines.linePos(offset);
  return line === 0 ? undefined : { line, column: col };
}

/** The key of a setting in a map, the value of one in a list. */
function offsetOf(document: Document.Parsed, path: SettingPath): number | undefined {
  let node: unknown = document.contents;
  let offset = startOf(node);
  for (const step of path) {
    const there = isAlias(node) ? node.resolve(document) : node;
    if (isMap(there)) {
      const pair = there.items.find((each) => keyOf(each) === String(step));
      offset = startOf(pair?.key) ?? offset;
      node = pair?.value;
    } else if (isSeq(there)) {
      node = there.items[Number(step)];
      offset = startOf(node) ?? offset;
    } else break;
  }
  return offset;
}

function keyOf(pair: Pair): unknown {
  return isScalar(pair.key) ? pair.key.value : pair.key;
}

function startOf(node: unknown): number | undefined {
  return isNode(node) ? (node as Node).range?.[0] : undefined;
}
