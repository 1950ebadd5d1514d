import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parsers } from 'prettier/plugins/typescript';
import { checkSync } from 'recheck';
import { root } from './source-tree.ts';

/** The folders whose expressions are checked: all that runs at a user's, and the scripts. */
const folders = ['base', 'protocol', 'stream', 'diagnostics', 'server', 'client', 'scripts'] as const;

/** A regular expression in a source file; without a pattern, it is made of values that only the running program knows. */
export interface FoundExpression {
  readonly file: string;
  readonly line: number;
  /** The source text. */
  readonly text: string;
  readonly pattern?: { readonly source: string; readonly flags: string };
}

/** Methods of strings that make a regular expression out of a string. */
const compiling = new Set(['match', 'matchAll', 'search']);

/** Every regular expression in the folders. */
export function regularExpressions(): readonly FoundExpression[] {
  return folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(?:ts|mjs)$/.test(name))
      .flatMap((name) => expressionsIn(join(folder, name), readFileSync(join(root, folder, name), 'utf8'))),
  );
}

interface SyntaxNode {
  readonly type: string;
  readonly range: readonly [start: number, end: number];
  readonly [key: string]: unknown;
}

/** The regular expressions in a source text: literals, `RegExp(…)`, and texts for `match`, `matchAll` and `search`. */
export function expressionsIn(file: string, text: string): readonly FoundExpression[] {
  const found: FoundExpression[] = [];
  const add = ({ range: [start, end] }: SyntaxNode, pattern?: FoundExpression['pattern']): void => {
    const line = text.slice(0, start).split('\n').length;
    found.push({ file, line, text: text.slice(start, end), ...(pattern && { pattern }) });
  };
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(visit);
    if (!isNode(value)) return;
    const made = patternOf(value);
    if (made !== undefined) add(value, made === 'unknown' ? undefined : made);
    for (const [key, child] of Object.entries(value)) {
      // Comments contain no code, and tokens are the same again.
      if (key !== 'parent' && key !== 'tokens' && key !== 'comments') visit(child);
    }
  };
  const options = { filepath: file } as unknown as Parameters<typeof parsers.typescript.parse>[1];
  visit(parsers.typescript.parse(text, options));
  return found;
}

function isNode(value: unknown): value is SyntaxNode {
  return typeof value === 'object' && value !== null && typeof (value as SyntaxNode).type === 'string';
}

/** The expression that a node stands for; undefined for any other node. */
function patternOf(
  node: SyntaxNode,
): { readonly source: string; readonly flags: string } | 'unknown' | undefined {
  const literal = node['regex'] as { readonly pattern: string; readonly flags: string } | undefined;
  if (node.type === 'Literal' && literal) return { source: literal.pattern, flags: literal.flags };
  if (node.type !== 'NewExpression' && node.type !== 'CallExpression') return undefined;
  const callee = node['callee'] as SyntaxNode;
  const [first, second] = node['arguments'] as readonly SyntaxNode[];
  const source = textOf(first);
  if (callee['name'] === 'RegExp') {
    const flags = second === undefined ? '' : textOf(second);
    // A copy of a literal, which is found by itself.
    if (first?.['regex'] !== undefined) return undefined;
    return source === undefined || flags === undefined ? 'unknown' : { source, flags };
  }
  const method = (callee['property'] as SyntaxNode | undefined)?.['name'];
  if (source === undefined || !compiling.has(String(method))) return undefined;
  return { source, flags: method === 'matchAll' ? 'g' : '' };
}

/** The value of a literal text. */
function textOf(node: SyntaxNode | undefined): string | undefined {
  if (node?.type === 'Literal' && typeof node['value'] === 'string') return node['value'];
  if (node?.type === 'TaggedTemplateExpression') return rawOf(node['quasi'] as SyntaxNode);
  const quasis = node?.type === 'TemplateLiteral' ? (node['quasis'] as readonly SyntaxNode[]) : [];
  return quasis.length === 1 ? (quasis[0]!['value'] as { cooked: string }).cooked : undefined;
}

/** A template of `String.raw`. */
function rawOf(quasi: SyntaxNode): string | undefined {
  const quasis = quasi['quasis'] as readonly SyntaxNode[];
  return quasis.length === 1 ? (quasis[0]!['value'] as { raw: string }).raw : undefined;
}

/** How the time of an expression grows with its input. No limit of time: on a busy machine the answer is the same. */
export function growthOf({ source, flags }: NonNullable<FoundExpression['pattern']>): string {
  // Long limits are read as none: what is linear without them is with them, and the checker need not guess.
  const widened = source.replaceAll(/\{(\d+),\d{2,}\}/g, '{$1,}');
  const found = checkSync(widened, flags, { timeout: null, randomSeed: 1 });
  if (found.status === 'safe') return 'linear';
  return found.status === 'vulnerable' ? found.complexity.summary : 'not decided';
}
