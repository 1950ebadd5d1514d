import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LineEditor } from '../../../../client/egress/proxy-auth/line-editor.ts';

/** What becomes of keys, and what is shown of them. */
function type(bytes: Buffer, at = bytes.length): readonly [result: unknown, shown: string] {
  let shown = '';
  const editor = new LineEditor((text) => (shown += text));
  const first = editor.push(bytes.subarray(0, at));
  return [first ?? editor.push(bytes.subarray(at)), shown];
}

describe('LineEditor', () => {
  for (const [keys, line, shown] of [
    ['alice\r', 'alice', 'alice'],
    ['alice\n', 'alice', 'alice'],
    ['alix\u007fce\r', 'alice', 'alix\b \bce'],
    ['\u007f\b\r', '', ''],
    ['wrong\u0015right\r', 'right', `wrong${'\b \b'.repeat(5)}right`],
    ['pässwörd€😀\u007f\r', 'pässwörd€', 'pässwörd€😀\b \b'],
    ['a\u001b[Db\tc\r', 'a[Dbc', 'a[Dbc'],
    ['first\rsecond\r', 'first', 'first'],
  ] as const) {
    it(`reads ${JSON.stringify(keys)}, wherever it is split`, () => {
      const bytes = Buffer.from(keys);
      for (let at = 0; at <= bytes.length; at++)
        assert.deepEqual(type(bytes, at), [{ text: line }, shown], `split at ${at}`);
    });
  }

  for (const keys of ['\u0003', 'half\u0003', '\u0004']) {
    it(`breaks off at ${JSON.stringify(keys)}`, () => assert.equal(type(Buffer.from(keys))[0], 'broken off'));
  }

  it('does not break off at Ctrl-D within a line', () =>
    assert.deepEqual(type(Buffer.from('a\u0004b\r'))[0], { text: 'ab' }));
});
