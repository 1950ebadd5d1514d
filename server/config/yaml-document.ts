import { LineCounter, isAlias, isMap, isNode, isScalar, isSeq, parseDocument, visit } from 'yaml';
import type { Document, Node, Pair } from 'yaml';
import type { ConfigProblem } from './config-error.ts';

/** Names a setting: keys and positions from the top. */
export type SettingPath = readonly (string | number)[];

export interface Position {
  readonly line: number;
  readonly column: number;
}

/** A config file as plain values, with the place of each of them. */
export interface ConfigDocument {
  readonly value: unknown;
  /** Problems of the text itself; `value` is undefined then. */
  readonly problems: readonly ConfigProblem[];
  /** The place of the setting, or of the nearest one around it. */
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
      ...positionOf(lines, at),
      path: '',
      message,
    }));
    if (problems.length > 0) return unreadable(problems);
    return {
      value: document.toJS({ maxAliasCount }) as unknown,
      problems: [],
      locate: (path) => positionOf(lines, offsetOf(document, path)),
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

/** Better words for the parser's commonest errors. */
const messages: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'this key occurs twice',
  TAB_AS_INDENT: 'this line begins with a tab; YAML requires spaces',
};

interface TextProblem {
  readonly at: number;
  readonly message: string;
}

function textProblems(document: Document.Parsed): readonly TextProblem[] {
  // A warning is a tag or directive that would be ignored: the operator meant something by it.
  const found: TextProblem[] = [...document.errors, ...document.warnings].map(({ pos, code, message }) => ({
    at: pos[0],
    message: messages[code] ?? message,
  }));
  visit(document, {
    Pair(_, pair) {
      if (keyOf(pair) !== '__proto__') return;
      found.push({ at: startOf(pair.key) ?? 0, message: '__proto__ cannot be a key' });
    },
  });
  return found;
}

function positionOf(lines: LineCounter, offset: number | undefined): Position | undefined {
  if (offset === undefined) return undefined;
  const { line, col } = lines.linePos(offset);
  return line === 0 ? undefined : { line, column: col };
}

/** The offset of the key of a setting in a map, of the value in a list. */
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
