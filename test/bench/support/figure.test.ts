import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { median, pairedRatio, quantile } from '../../../bench/support/figure.ts';

describe('quantile()', () => {
  const hundred = Array.from({ length: 100 }, (_, at) => 100 - at);

  for (const [share, value] of [
    [0, 1],
    [0.5, 51],
    [0.99, 100],
    [1, 100],
  ] as const) {
    it(`gives ${value} of 1 to 100 for ${share}`, () => assert.equal(quantile(hundred, share), value));
  }

  it('leaves the values as they are', () => {
    const values = [3, 1, 2];
    assert.equal(median(values), 2);
    assert.deepEqual(values, [3, 1, 2]);
  });

  it('gives NaN of nothing', () => assert.ok(Number.isNaN(quantile([], 0.5))));
});

describe('pairedRatio()', () => {
  it('compares what was measured side by side, not the medians', () => {
    // A machine that got slower: 2 × in each round.
    assert.equal(pairedRatio([2, 4, 60], [1, 2, 30]), 2);
  });

  it('leaves out a pair whose reference is nothing', () =>
    assert.equal(pairedRatio([2, 3, 9], [1, 0, 3]), 3));

  for (const [what, reference] of [
    ['without a reference', []],
    ['with one that is nothing', [0, 0]],
  ] as const) {
    it(`gives NaN ${what}`, () => assert.ok(Number.isNaN(pairedRatio([1, 2], reference))));
  }
});
