import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { equalInConstantTime } from '../../base/constant-time.ts';

describe('equalInConstantTime()', () => {
  for (const [one, other, expected] of [
    ['', '', true],
    ['same', 'same', true],
    ['same', 'sane', false],
    ['short', 'shorter', false],
    ['é', Buffer.from('é'), true],
    ['é', Buffer.from('e'), false],
    [Buffer.from([0, 255]), Uint8Array.of(0, 255), true],
  ] as const) {
    it(`${JSON.stringify(one)} and ${JSON.stringify(other)}: ${expected}`, () =>
      assert.equal(equalInConstantTime(one, other), expected));
  }
});
