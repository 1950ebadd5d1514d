import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { describe as describeInMarkdown, drawRun, fillIn } from '../../../bench/support/pages.ts';
import { rowsOf, written } from '../../../bench/support/results.ts';
import type { Run } from '../../../bench/support/results.ts';
import { groups } from '../../../bench/support/variants.ts';

const rows = [
  { what: 'direct', group: groups.clear, values: { downCpu: Number.NaN, rssMiB: Number.NaN } },
  { what: 'Postern <x>', group: groups.clear, values: { downCpu: 0.5, rssMiB: 80 }, note: 'a 1; b 2' },
];

const measured: Run = {
  at: '2026-01-02T03:04:05.678Z',
  commit: '0123456789ab',
  isDirty: true,
  quick: false,
  node: 'v26.0.0',
  machine: { cpu: 'CPU <b>', cpus: 2, memoryGiB: 8, kernel: '6.1' },
  load: 0.25,
  rivals: { haproxy: '2.6' },
  figures: {
    bulk: written(rows),
    keystroke: written([{ what: 'Postern <x>', values: { addedMedianMs: 0.125 } }]),
  },
  failed: {},
};

describe('a run that is written down', () => {
  it('is read back as it was, also what has no number', () => {
    const line = JSON.stringify(written(rows));
    assert.deepEqual(rowsOf(JSON.parse(line) as ReturnType<typeof written>), rows);
  });

  it('is drawn with what it says, and without the direct connection', () => {
    const svg = drawRun(measured);
    assert.match(svg, /Postern &lt;x&gt;: 0\.50, –, 0\.13, 80\./);
    assert.match(svg, /CPU &lt;b&gt;, Node\.js v26\.0\.0, 2026-01-02/);
    assert.doesNotMatch(svg, />direct</);
  });

  it('is put into the page between its marks, and the next one in its place', () => {
    const numbers = describeInMarkdown(measured, []);
    assert.match(numbers, /2026-01-02, commit 0123456789ab with uncommitted changes[^]*haproxy 2\.6/);
    const page = 'a\n<!-- Written by `npm run bench -- --write`. -->\nold\n<!-- Up to here. -->\nb\n';
    const filled = fillIn(page, numbers);
    assert.ok(filled.startsWith('a\n') && filled.endsWith('\nb\n') && !filled.includes('old'));
    assert.equal(fillIn(filled, numbers), filled);
    assert.throws(() => fillIn('no marks', numbers));
  });
});
