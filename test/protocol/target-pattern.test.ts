import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { isAddress, parseTarget, quote } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { formatPattern, parsePattern, patternMatches } from '../../protocol/target-pattern.ts';

const numRuns = Number(process.env['POSTERN_FUZZ_RUNS'] ?? 2000);

describe('parsePattern()', () => {
  const accepted: readonly (readonly [string, string, number | '*'])[] = [
    ['box', 'box', 22],
    ['Box.Example', 'box.example', 22],
    ['box:2222', 'box', 2222],
    ['box:*', 'box', '*'],
    ['*', '*', 22],
    ['*:2222', '*', 2222],
    ['*:*', '*', '*'],
    ['*.dev.example', '*.dev.example', 22],
    ['*.dev.example:22', '*.dev.example', 22],
    ['*.dev.example:*', '*.dev.example', '*'],
    ['*.example', '*.example', 22],
    ['10.0.0.5', '10.0.0.5', 22],
    ['[fd00::5]', 'fd00::5', 22],
    ['[FD00::5]:*', 'fd00::5', '*'],
  ];
  for (const [text, host, port] of accepted) {
    it(`reads ${text}`, () => {
      const pattern = parsePattern(text);
      assert.deepEqual(pattern, { host, port });
      assert.deepEqual(parsePattern(formatPattern(pattern)), pattern);
    });
  }

  const refused = [
    '',
    ':',
    ':22',
    ':*',
    '*:',
    '*:0',
    '*:**',
    'box:',
    'box:22:*',
    'box:*:22',
    'box:*:*',
    '**',
    '*.',
    '*..a',
    '*foo',
    '*.*',
    '*.*.a',
    'a.*',
    'a.*.b',
    'f*o.example',
    '*-a.example',
    '[*]',
    '*[::1]',
    '*.[::1]',
    '*.1.2.3.4',
    '*.0.0.1',
    '*.1',
    '*.0x7f',
    '*box',
    '*@box',
    ' *',
    '* ',
    '*\n',
    '*.a b',
    '10.0.0.0/8',
    '[fd00::]/8',
    '::1',
    '*.-a',
    '*.-a',
  ];
  for (const text of refused) {
    it(`refuses ${quote(text)}`, () => {
      assert.throws(() => parsePattern(text), { code: 'TARGET_INVALID' });
    });
  }
});

describe('patternMatches()', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['box', 'box', true],
    ['box', 'box:2222', false],
    ['box', 'boxx', false],
    ['box', 'box.example', false],
    ['box:*', 'box:2222', true],
    ['*.a.b', 'x.a.b', true],
    ['*.a.b', 'y.x.a.b', true],
    ['*.a.b', 'a.b', false],
    ['*.a.b', 'xa.b', false],
    ['*.a.b', 'x.a.b.evil', false],
    ['*.a.b', 'x.a.b:23', false],
    ['*', 'box', true],
    ['*', '10.0.0.5', true],
    ['*', '[::1]', true],
    ['*', 'box:23', false],
    ['*.example', '10.0.0.5', false],
    ['10.0.0.5', '10.0.0.5', true],
    ['10.0.0.5', '[::ffff:10.0.0.5]', false],
    ['[fd00::5]', '[fd00:0:0::5]', true],
  ];
  for (const [pattern, target, matches] of cases) {
    it(`${pattern} ${matches ? 'matches' : 'does not match'} ${target}`, () => {
      assert.equal(patternMatches(parsePattern(pattern), parseTarget(target)), matches);
    });
  }

  it('agrees with an oracle that works on labels', () => {
    const label = fc.constantFrom('a', 'b', 'xa', 'dev', 'box');
    const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));
    const host = fc.oneof(name, fc.constantFrom('10.0.0.5', '[fd00::5]'));
    const port = fc.constantFrom('', ':22', ':23', ':2222');
    const target = fc.tuple(host, port).map((parts) => parts.join(''));
    const star = fc.oneof(
      host,
      name.map((each) => `*.${each}`),
      fc.constant('*'),
    );
    const pattern = fc.tuple(star, fc.oneof(port, fc.constant(':*'))).map((parts) => parts.join(''));
    const property = fc.property(pattern, target, (pattern, target) => {
      assert.equal(
        patternMatches(parsePattern(pattern), parseTarget(target)),
        oracle(pattern, parseTarget(target)),
      );
    });
    fc.assert(property, { numRuns });
  });
});

/** The same decision, made on the text: labels from the right, ports as text. */
function oracle(pattern: string, { host, port }: Target): boolean {
  const [, stem, wanted = '22'] = /^(.*?)(?::(\d+|\*))?$/.exec(pattern.replace(/[[\]]/g, '§'))!;
  if (wanted !== '*' && wanted !== String(port)) return false;
  const plain = stem!.replaceAll('§', '');
  if (plain === '*') return true;
  if (!plain.startsWith('*.')) return plain === host;
  if (isAddress(host)) return false;
  const want = plain.split('.').slice(1).toReversed();
  const have = host.split('.').toReversed();
  return have.length > want.length && want.every((label, at) => label === have[at]);
}
