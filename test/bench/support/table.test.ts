import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { markdownTable, number, table } from '../../../bench/support/table.ts';

const shown = {
  title: 'cost',
  columns: { cpu: ['CPU s', 2, ['least', 'most']], rss: ['MiB', 0] },
} as const;
const rows = [
  { what: 'a', group: 'one', values: { cpu: 1.234, least: 1, most: 2, rss: 10.4 } },
  { what: 'longer', group: 'one', values: { cpu: Number.NaN, least: 0, most: 0, rss: Number.NaN } },
  { what: 'b', group: 'two', values: { cpu: 20, least: 20, most: 20, rss: 1000 }, note: 'x 1; y 2' },
];

describe('table()', () => {
  it('has names to the left, numbers to the right, ranges in brackets, dashes, groups and notes', () => {
    assert.equal(
      table(shown, rows),
      [
        'cost                  CPU s   MiB',
        '-- one',
        'a          1.23 (1.00–2.00)    10',
        'longer                    –     –',
        '-- two',
        'b       20.00 (20.00–20.00)  1000  x 1; y 2',
        '',
      ].join('\n'),
    );
  });

  it('has only a heading where nothing was measured', () =>
    assert.equal(table(shown, []), 'cost  CPU s  MiB\n'));
});

describe('markdownTable()', () => {
  it('has the same cells', () => {
    assert.equal(
      markdownTable(shown, rows),
      [
        '**cost**',
        '',
        '|  | CPU s | MiB |  |',
        '| --- | --: | --: | --- |',
        '| _one_ |',
        '| a | 1.23 (1.00–2.00) | 10 |  |',
        '| longer | – | – |  |',
        '| _two_ |',
        '| b | 20.00 (20.00–20.00) | 1000 | x 1; y 2 |',
        '',
      ].join('\n'),
    );
  });

  it('has names that stay one cell of plain text', () => {
    const hostile = '|a| <img src=x> [b](c) *d* `e` \\';
    const [, , , , line] = markdownTable(shown, [{ what: hostile, values: rows[0]!.values }]).split('\n');
    assert.equal(line, '| \\|a\\| \\<img src=x\\> \\[b\\](c) \\*d\\* \\`e\\` \\\\ | 1.23 (1.00–2.00) | 10 |');
  });
});

describe('number()', () => {
  for (const value of [undefined, Number.NaN, Number.POSITIVE_INFINITY]) {
    it(`is a dash for ${value}`, () => assert.equal(number(value, 2), '–'));
  }
});
