import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, it } from 'node:test';
import { passwordInFile, passwordOf } from '../../../client/local-proxy/password.ts';
import { temporaryDirectory } from '../support.ts';

describe('passwordInFile()', () => {
  it('writes a new password once, for this user alone', (t) => {
    const path = join(temporaryDirectory(t), 'new', 'password');
    const { password, isNew } = passwordInFile(path);
    assert.equal(isNew, true);
    const text = readFileSync(path, 'utf8').trim();
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.ok(password.matches(text));
    const again = passwordInFile(path);
    assert.deepEqual(
      [again.isNew, again.password.matches(text), again.password.matches('')],
      [false, true, false],
    );
    assert.ok(!inspect(password, { showHidden: true, depth: 9 }).includes(text));
  });

  for (const [what, text, mode] of [
    ['an empty file', '\n', 0o600],
    ['a password that is too long for SOCKS', 'x'.repeat(256), 0o600],
    ['a file that others can read', 'sesame', 0o644],
  ] as const) {
    it(`refuses ${what}, and does not show what is in it`, (t) => {
      const path = join(temporaryDirectory(t), 'password');
      writeFileSync(path, text);
      chmodSync(path, mode);
      assert.throws(
        () => passwordInFile(path),
        (error: Error & { code: string }) =>
          error.code === 'CONFIG_INVALID' && !error.message.includes('sesame'),
      );
    });
  }

  it('refuses a place where nothing can be written', () => {
    assert.throws(() => passwordInFile('/dev/null/nowhere/password'), { code: 'CONFIG_INVALID' });
  });
});

describe('passwordOf()', () => {
  it('takes what there is room for in SOCKS', () => {
    assert.ok(passwordOf('x'.repeat(255), 'a test').matches('x'.repeat(255)));
    assert.throws(() => passwordOf('ü'.repeat(128), 'a test'), { code: 'CONFIG_INVALID' });
  });
});
