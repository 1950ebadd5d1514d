import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { expiryError, givenToken } from '../../../client/credentials/static-token.ts';
import { Secret } from '../../../protocol/secret.ts';
import { temporaryDirectory, unsignedToken } from '../support.ts';

const now = new Date('2026-11-23T00:00:00Z');
const seconds = now.getTime() / 1000;

describe('givenToken()', () => {
  it('takes the file before the text', (t) => {
    const file = join(temporaryDirectory(t), 'token');
    writeFileSync(file, ' from-file \n');
    const text = new Secret('from-text');
    assert.equal(givenToken({ file, text })?.token.reveal(), 'from-file');
    assert.equal(givenToken({ text })?.token.reveal(), 'from-text');
    assert.equal(givenToken({}), undefined);
  });

  for (const [mode, isWarned] of [
    [0o644, true],
    [0o604, true],
    [0o640, false],
    [0o600, false],
  ] as const) {
    it(`${isWarned ? 'warns' : 'does not warn'} of a file of mode ${mode.toString(8)}`, (t) => {
      const file = join(temporaryDirectory(t), 'token');
      writeFileSync(file, 'a.b.c');
      chmodSync(file, mode);
      const module = new URL('../../../client/credentials/static-token.ts', import.meta.url).href;
      const script = `const { givenToken } = await import('${module}'); givenToken({ file: '${file}' }); givenToken({ file: '${file}' });`;
      const { stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
        encoding: 'utf8',
      });
      const warning = `postern: warning: other users can read the token file; run: chmod 600 ${file}\n`;
      assert.equal(stderr, isWarned ? warning : '');
    });
  }

  for (const file of ['/does/not/exist', '/', '/dev/zero']) {
    it(`refuses the token file ${file}`, () => {
      assert.throws(() => givenToken({ file }), { code: 'CONFIG_INVALID' });
    });
  }

  for (const text of ['', ' ', 'a b', 'a\r\nX-Evil: 1', 'tök', 'a\0', 'x'.repeat(8193)]) {
    it(`refuses the token ${JSON.stringify(text.slice(0, 20))}`, () => {
      assert.throws(() => givenToken({ text: new Secret(text) }), { code: 'TOKEN_INVALID' });
    });
  }

  for (const [exp, valid] of [
    [seconds + 60, true],
    [seconds, true],
    [seconds - 29, true],
    [seconds - 30, false],
    [seconds - 3600, false],
    [1e300, true],
    ['soon', true],
    [undefined, true],
  ] as const) {
    it(`sends a token with exp ${exp}, which ${valid ? 'can be the reason for no refusal' : 'explains a refusal'}`, () => {
      const text = new Secret(unsignedToken({ sub: 'u', exp }));
      const found = givenToken({ text })!;
      assert.equal(found.token.reveal(), text.reveal());
      assert.equal(expiryError(found, now)?.code, valid ? undefined : 'TOKEN_INVALID');
    });
  }

  for (const text of ['ticket', 'a.b.c', 'a.bnVsbA.c', 'a.WzFd.c']) {
    it(`sends ${text}, which says nothing of itself`, () => {
      const found = givenToken({ text: new Secret(text) });
      assert.equal(found?.token.reveal(), text);
    });
  }
});
