// SECURITY: a regular expression that tries every beginning of a long run of spaces takes a quarter of a second for one
// header of 16 KB, and every tunnel of the process stands still meanwhile.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { expressionsIn, growthOf, regularExpressions } from './support/regular-expressions.ts';
import type { FoundExpression } from './support/regular-expressions.ts';

/** Expressions that stay although they are not linear or not constant, with the reason: `file text`. */
const exceptions: Readonly<Record<string, string>> = {
  "scripts/unit-tests.mjs /^(?:import|export)(?! type)(?: [^;'\"]*? from)? '([^']+)'|\\bimport\\('([^']+)'\\)/gm":
    'reads the test files of this project',
  'server/commands/fill-in.ts new RegExp(':
    'made of the names in our own example files, each escaped; replaces them in files of ours',
};

const nameOf = ({ file, text }: FoundExpression): string => `${file} ${text.split('\n')[0]}`;

const refused = (found: readonly FoundExpression[]): readonly string[] =>
  found
    .map((each) => ({ each, growth: each.pattern ? growthOf(each.pattern) : 'made at run time' }))
    .filter(({ each, growth }) => growth !== 'linear' && !(nameOf(each) in exceptions))
    .map(({ each, growth }) => `${each.file}:${each.line} ${each.text}: ${growth}`);

describe('every regular expression', () => {
  const found = regularExpressions();

  it('is found', () => {
    assert.ok(found.length > 150, `only ${found.length}`);
    for (const folder of ['base', 'protocol', 'diagnostics', 'server', 'client', 'scripts'])
      assert.ok(folder === 'base' || found.some(({ file }) => file.startsWith(`${folder}/`)), folder);
  });

  it('takes time in proportion to its input', () => {
    assert.deepEqual(refused(found), []);
  });

  it('that is an exception still exists', () => {
    const names = new Set(found.map(nameOf));
    assert.deepEqual(
      Object.keys(exceptions).filter((name) => !names.has(name)),
      [],
    );
  });
});

/** Each planted in a file, in one of the ways to write it. */
const planted: Readonly<Record<string, string>> = {
  'a trim': String.raw`const trim = (text: string) => text.replaceAll(/^[ \t]+|[ \t]+$/g, '');`,
  'a header field': String.raw`export const read = (line: string) => /^([\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line);`,
  'lines of a program': String.raw`for (const [, a] of text.matchAll(/^\s*(\w+) : (.*?)\s*$/gm)) use(a);`,
  'blank lines before a word': String.raw`/^\s*"acct"<blob>=(.*)$/m.exec(output);`,
  'nested repetition': String.raw`class A { readonly #form = /^(?:[a-z]+\.?)+$/; }`,
  'everything before a sign': 'log(`${text.replace(/[^/@]*@/g, "")}`);',
  'a constructor': String.raw`const slow = new RegExp('\\s+$', 'u');`,
  'a constructor without new': 'const slow = RegExp(` +$`);',
  'a raw text': 'const slow = new RegExp(String.raw`\\s+$`);',
  'a text that becomes an expression': String.raw`const at = text.search(' +$');`,
  'an expression of values': 'const slow = new RegExp(`${name} +$`);',
};

describe('a slow expression is reported', () => {
  for (const [what, text] of Object.entries(planted)) {
    it(what, () => {
      assert.equal(refused(expressionsIn('server/planted.ts', text)).length, 1);
    });
  }

  it('and a fast one is not', () => {
    const text = String.raw`const a = [/^[\w-]{22}$/, /^[^:]*:(\d+)$/, new RegExp('^a+$'), text.match('b')]; // /\s+$/`;
    assert.equal(expressionsIn('server/planted.ts', text).length, 4);
    assert.deepEqual(refused(expressionsIn('server/planted.ts', text)), []);
  });
});
