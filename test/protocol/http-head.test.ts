import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatResponseHead } from '../../protocol/http-head.ts';

describe('a response head', () => {
  it('is lines that end in CRLF, and an empty one', () => {
    assert.equal(formatResponseHead(200, 'OK', [['A', 'b']]), 'HTTP/1.1 200 OK\r\nA: b\r\n\r\n');
  });

  for (const text of ['a\r\nb', 'a\nb', 'a\0b', 'a\u001bb']) {
    it(`cannot be broken with ${JSON.stringify(text)}`, () => {
      assert.throws(() => formatResponseHead(200, text, []), TypeError);
      assert.throws(() => formatResponseHead(200, 'OK', [['A', text]]), TypeError);
      assert.throws(() => formatResponseHead(200, 'OK', [[text, 'b']]), TypeError);
    });
  }
});
