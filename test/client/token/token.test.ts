import assert from 'node:assert/strict';
import { chmodSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { findToken } from '../../../client/token/token.ts';
import { Secret } from '../../../protocol/secret.ts';
import { temporaryDirectory, unsignedToken } from '../support.ts';

const gateway = new URL('https://gw.example/ssh/');
const now = new Date('2026-11-23T00:00:00Z');
const seconds = now.getTime() / 1000;

describe('findToken()', () => {
  it('takes the file before the text before the sign-in', (t) => {
    const state = temporaryDirectory(t);
    const file = join(state, 'token');
    writeFileSync(file, ' from-file \n');
    writeFileSync(
      join(state, 'sign-in.json'),
      '{"gateway":"https://gw.example/ssh/","token":"from-sign-in"}',
      {
        mode: 0o600,
      },
    );
    const text = new Secret('from-text');
    assert.equal(findToken({ file, text, state }, gateway, now).token.reveal(), 'from-file');
    assert.equal(findToken({ text, state }, gateway, now).token.reveal(), 'from-text');
    assert.equal(findToken({ state }, gateway, now).token.reveal(), 'from-sign-in');
  });

  for (const other of ['https://gw.example/', 'https://gw.example/ssh', 'https://evil.example/ssh/']) {
    it(`gives a sign-in for ${other} to no other gateway`, (t) => {
      const state = temporaryDirectory(t);
      writeFileSync(join(state, 'sign-in.json'), JSON.stringify({ gateway: other, token: 'x' }), {
        mode: 0o600,
      });
      assert.throws(() => findToken({ state }, gateway, now), { code: 'TOKEN_MISSING' });
    });
  }

  for (const mode of [0o640, 0o604, 0o666]) {
    it(`refuses a sign-in with mode ${mode.toString(8)}`, (t) => {
      const state = temporaryDirectory(t);
      const path = join(state, 'sign-in.json');
      writeFileSync(path, '{"gateway":"https://gw.example/ssh/","token":"x"}');
      chmodSync(path, mode);
      assert.throws(() => findToken({ state }, gateway, now), { code: 'CONFIG_INVALID' });
    });
  }

  it('refuses a sign-in that is a symbolic link', (t) => {
    const state = temporaryDirectory(t);
    writeFileSync(join(state, 'real'), '{"gateway":"https://gw.example/ssh/","token":"x"}', { mode: 0o600 });
    symlinkSync('real', join(state, 'sign-in.json'));
    assert.throws(() => findToken({ state }, gateway, now), { code: 'CONFIG_INVALID' });
  });

  for (const damage of [
    '',
    '{',
    'null',
    '[]',
    '{"gateway":1,"token":"x"}',
    `{"token":"${'x'.repeat(70_000)}"}`,
  ]) {
    it(`refuses the sign-in ${JSON.stringify(damage.slice(0, 40))}`, (t) => {
      const state = temporaryDirectory(t);
      writeFileSync(join(state, 'sign-in.json'), damage, { mode: 0o600 });
      assert.throws(() => findToken({ state }, gateway, now), { code: 'CONFIG_INVALID' });
    });
  }

  for (const file of ['/does/not/exist', '/', '/dev/zero']) {
    it(`refuses the token file ${file}`, (t) => {
      assert.throws(() => findToken({ file, state: temporaryDirectory(t) }, gateway, now), {
        code: 'CONFIG_INVALID',
      });
    });
  }

  for (const text of ['', ' ', 'a b', 'a\r\nX-Evil: 1', 'tök', 'a\0', 'x'.repeat(8193)]) {
    it(`refuses the token ${JSON.stringify(text.slice(0, 20))}`, (t) => {
      const state = temporaryDirectory(t);
      assert.throws(() => findToken({ text: new Secret(text), state }, gateway, now), {
        code: 'TOKEN_INVALID',
      });
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
    it(`${valid ? 'sends' : 'does not send'} a token with exp ${exp}`, (t) => {
      const text = new Secret(unsignedToken({ sub: 'u', exp }));
      const find = () => findToken({ text, state: temporaryDirectory(t) }, gateway, now);
      if (valid) assert.equal(find().token.reveal(), text.reveal());
      else assert.throws(find, { code: 'TOKEN_INVALID' });
    });
  }

  for (const text of ['ticket', 'a.b.c', 'a.bnVsbA.c', 'a.WzFd.c']) {
    it(`sends ${text}, which says nothing of itself`, (t) => {
      const found = findToken({ text: new Secret(text), state: temporaryDirectory(t) }, gateway, now);
      assert.equal(found.token.reveal(), text);
    });
  }
});
