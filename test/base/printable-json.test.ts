import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { printableJson } from '../../base/printable-json.ts';

describe('printableJson()', () => {
  it('is read as JSON.stringify is, and has nothing in it that a terminal would interpret', () => {
    for (let code = 0; code <= 0x10ffff; code += code < 0x3000 ? 1 : 251) {
      const value = { [String.fromCodePoint(code)]: [`a${String.fromCodePoint(code)}b`] };
      const text = printableJson(value);
      assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)));
      assert.doesNotMatch(text, /[\p{C}\p{Zl}\p{Zp}]/u);
    }
  });

  it('has the lines of an indentation, and no others', () => {
    const text = printableJson({ host: 'a\nb\u009b31m\u202e', more: [1] }, 2);
    assert.equal(text, '{\n  "host": "a\\nb\\u009b31m\\u202e",\n  "more": [\n    1\n  ]\n}');
  });
});
