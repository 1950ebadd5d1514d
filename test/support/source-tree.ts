import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of the project, with a slash at its end. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** The folders of product code, in the order in which they may import: each only itself and those before it. */
export const tops = ['base', 'protocol', 'stream', 'diagnostics', 'server', 'client'] as const;

/** One TypeScript file of the product. */
export interface SourceFile {
  /** Relative to the root. */
  readonly file: string;
  readonly text: string;
  /** The text without its comments. */
  readonly code: string;
  /** Only the comments. */
  readonly comments: string;
  /** Every identifier in it, once. */
  readonly identifiers: ReadonlySet<string>;
  /** Files of this project, relative to its root, and names of packages. */
  readonly imports: readonly string[];
}

export function readSourceTree(): readonly SourceFile[] {
  return tops.flatMap((top) =>
    readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => parseSource(join(top, name), readFileSync(join(root, top, name), 'utf8'))),
  );
}

/** A file as the rules see it; a test plants violations with it. */
export function parseSource(file: string, text: string): SourceFile {
  const { code, comments, identifiers } = scan(text);
  const found = [
    ...text.matchAll(
      /(?:^|\n)(?:import|export)\b[^;'"]*?from '([^']+)'|\bimport\('([^']+)'\)|(?:^|\n)import '([^']+)'/g,
    ),
  ];
  const imports = found
    .map(([, from, lazily, bare]) => from ?? lazily ?? bare!)
    .map((name) => (name.startsWith('.') ? relative(root, resolve(root, dirname(file), name)) : name));
  return { file, text, code, comments, identifiers, imports };
}

/** A slash after one of these begins a regular expression, after anything else it divides. */
const beforeRegExp = /(?:^|[=(,:;!&|?{}[>+*%~^-]|\b(?:return|typeof|case|in|of|await|yield|void|new))\s*$/;

/** Splits TypeScript into code without comments, comments, and the identifiers outside of texts and regular expressions. */
function scan(text: string): Pick<SourceFile, 'code' | 'comments' | 'identifiers'> {
  let code = '';
  let comments = '';
  /** Code with texts and regular expressions taken out. */
  let bare = '';
  /** One for each template literal that is open: how many braces are open inside its current expression. */
  const templates: number[] = [];
  for (let at = 0; at < text.length;) {
    const rest = text.slice(at, at + 2);
    let token: string;
    if (rest === '//' || rest === '/*') {
      const end = text.indexOf(rest === '//' ? '\n' : '*/', at + 2);
      token = text.slice(at, end === -1 ? undefined : end + (rest === '//' ? 0 : 2));
      comments += `${token}\n`;
      at += token.length;
      continue;
    }
    const literal = /^(?:'(?:[^'\\\n]|\\[^])*'|"(?:[^"\\\n]|\\[^])*")/.exec(text.slice(at, at + 4000))?.[0];
    if (literal !== undefined) token = literal;
    else if (text[at] === '/' && beforeRegExp.test(bare.slice(-40)))
      token = /^\/(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/\w*/.exec(text.slice(at))?.[0] ?? '/';
    else if (text[at] === '`' || (text[at] === '}' && templates.at(-1) === 0)) {
      if (text[at] === '}') templates.pop();
      token = /^[`}](?:[^`\\$]|\\[^]|\$(?!\{))*(?:`|\$\{)/.exec(text.slice(at))?.[0] ?? text[at]!;
      if (token.endsWith('${')) templates.push(0);
    } else {
      token = /^[\w$#]+/.exec(text.slice(at))?.[0] ?? text[at]!;
      if (templates.length > 0 && token === '{') templates[templates.length - 1]!++;
      if (templates.length > 0 && token === '}') templates[templates.length - 1]!--;
      bare += token;
      code += token;
      at += token.length;
      continue;
    }
    bare += token === '/' ? '/' : ' x ';
    code += token;
    at += token.length;
  }
  const identifiers = new Set((bare.match(/#?[A-Za-z_$][\w$]*/g) ?? []).map((name) => name.replace('#', '')));
  return { code, comments, identifiers };
}
