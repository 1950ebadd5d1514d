import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { identificationIn } from '../../../client/doctor/greeting.ts';

describe('identificationIn()', () => {
  for (const [bytes, line] of [
    ['SSH-2.0-OpenSSH_9.2p1 Debian\r\n', 'SSH-2.0-OpenSSH_9.2p1 Debian'],
    ['SSH-2.0-dropbear\n', 'SSH-2.0-dropbear'],
    ['Welcome\r\nto us\r\nSSH-2.0-x\r\n\0\0\0', 'SSH-2.0-x'],
    ['SSH-2.0-x', undefined],
    ['220 mail.example ESMTP\r\n', undefined],
    ['HTTP/1.1 400 Bad Request\r\nx: SSH-2.0-x\r\n', undefined],
    ['', undefined],
  ] as const) {
    it(`finds ${line ?? 'none'} in ${JSON.stringify(bytes)}`, () =>
      assert.equal(identificationIn(Buffer.from(bytes, 'latin1')), line));
  }

  it('waits for the end of the line, wherever it is cut', () => {
    const bytes = Buffer.from('hello\r\nSSH-2.0-x y\r\n');
    for (let at = 0; at < bytes.length; at++)
      assert.equal(identificationIn(bytes.subarray(0, at)), undefined);
    assert.equal(identificationIn(bytes), 'SSH-2.0-x y');
  });
});
