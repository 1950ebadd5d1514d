import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { assert as check, property, string } from 'fast-check';
import { formatError, readLastError, reportError } from '../../../client/errors/report.ts';
import { ClientError } from '../../../client/errors/failure.ts';
import { tunnelErrors } from '../../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import { temporaryDirectory, unsignedToken } from '../support.ts';

describe('explain()', () => {
  it('says what happened, in which layer, and one command', () => {
    const text = formatError(
      new ClientError('TARGET_DENIED', 'alice may not reach db1', { requestId: 'r1', hint: 'postern x' }),
    );
    assert.equal(
      text,
      'postern: policy: alice may not reach db1, request r1 (TARGET_DENIED)\npostern: hint: postern x\n',
    );
  });

  it('has no hint where none is wanted', () => {
    assert.equal(formatError(new ClientError('USAGE', 'x', { hint: '' })), 'postern: x (USAGE)\n');
  });

  for (const code of Object.keys(tunnelErrors) as TunnelErrorCode[]) {
    it(`tells ${code} in at most two lines`, () => {
      const lines = formatError(new ClientError(code, 'what happened')).split('\n');
      assert.ok(lines.length <= 3 && lines.at(-1) === '');
      assert.ok(lines[0]!.startsWith('postern: ') && lines[0]!.endsWith(`(${code})`));
    });
  }

  it('never lets a peer write to the terminal: no control or direction character gets through', () => {
    check(
      property(string({ unit: 'binary' }), string({ unit: 'binary' }), (message, requestId) => {
        const text = formatError(new ClientError('HTTP_UNEXPECTED', message, { requestId, hint: message }));
        assert.match(text, /^[^\p{C}\p{Zl}\p{Zp}]*\n(?:[^\p{C}\p{Zl}\p{Zp}]*\n)?$/u);
      }),
    );
    assert.match(formatError(new ClientError('INTERNAL', '\x1b]0;owned\x07\u202e\u009b')), /^[\x20-\x7e]*\n$/);
  });

  it('never shows a token that a peer has echoed', () => {
    const token = unsignedToken({ sub: 'canary' });
    const text = formatError(new ClientError('HTTP_UNEXPECTED', `bad header Bearer ${token}`, { requestId: token }));
    for (const part of token.split('.').slice(0, 2)) assert.ok(!text.includes(part));
  });

  it('keeps a long message short', () => {
    assert.ok(formatError(new ClientError('INTERNAL', 'x'.repeat(100_000))).length < 1000);
  });
});

describe('report()', () => {
  it('keeps the last failure for status, for this user only', (t) => {
    const state = join(temporaryDirectory(t), 'deep', 'state');
    reportError(new ClientError('DIAL_REFUSED', 'box refused', { requestId: 'r1' }), state, 'box');
    const last = readLastError(state);
    assert.deepEqual(
      [last?.code, last?.layer, last?.message, last?.requestId, last?.target],
      ['DIAL_REFUSED', 'target', 'box refused', 'r1', 'box'],
    );
    assert.equal(statSync(join(state, 'last-error')).mode & 0o777, 0o600);
    assert.equal(statSync(state).mode & 0o777, 0o700);
    assert.ok(Math.abs(Date.parse(last!.time) - Date.now()) < 60_000);
  });

  it('does not mind a state directory that cannot be written', (t) => {
    const file = join(temporaryDirectory(t), 'file');
    writeFileSync(file, 'x');
    reportError(new ClientError('DIAL_REFUSED', 'box refused'), join(file, 'state'));
    assert.equal(readFileSync(file, 'utf8'), 'x');
  });
});

describe('readLastError()', () => {
  for (const damage of ['', '{', 'null', '{"time":1}', '[]']) {
    it(`takes ${JSON.stringify(damage)} for nothing`, (t) => {
      const state = temporaryDirectory(t);
      mkdirSync(state, { recursive: true });
      writeFileSync(join(state, 'last-error'), damage);
      assert.equal(readLastError(state), undefined);
    });
  }
});
