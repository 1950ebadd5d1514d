import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { findingStyle, formatFinding, plainer, toJsonFinding } from '../../diagnostics/render.ts';
import type { Finding } from '../../diagnostics/finding.ts';

const plain = { isUnicode: false, isColored: false };
const rich = { isUnicode: true, isColored: false };

const finding: Finding = {
  check: 'tls',
  title: 'TLS',
  status: 'error',
  what: 'the certificate of gw.example is not trusted here',
  meaning: 'a proxy opens the encryption.',
  advice: 'get the CA certificate, and',
  lines: ['postern setup --ca-file company.pem'],
  code: 'TLS_FAILED',
};

describe('formatFinding()', () => {
  it('says what, what it means and what to do', () => {
    assert.equal(
      formatFinding(finding, rich),
      [
        '✗ TLS           the certificate of gw.example is not trusted here (TLS_FAILED)',
        '                Meaning: a proxy opens the encryption.',
        '                Fix: get the CA certificate, and',
        '                    postern setup --ca-file company.pem',
        '',
      ].join('\n'),
    );
  });

  it('uses words for signs where there is no Unicode', () => {
    assert.match(
      formatFinding({ ...finding, what: 'a – b…' }, plain),
      /^FAIL TLS +a - b\.\.\. \(TLS_FAILED\)$/m,
    );
  });

  it('colours the sign and nothing else', () => {
    const text = formatFinding(finding, { isUnicode: true, isColored: true });
    assert.ok(text.startsWith('\x1b[31m✗\x1b[0m TLS'));
    assert.equal(text.split('\x1b').length, 3);
  });

  it('keeps lines short, and breaks no command', () => {
    const text = formatFinding(
      { ...finding, meaning: 'word '.repeat(60).trim(), what: 'x'.repeat(150) },
      rich,
    );
    const lines = text.split('\n');
    assert.ok(lines.filter((line) => !line.includes('xxx')).every((line) => line.length <= 100));
    assert.ok(lines.some((line) => line.includes('x'.repeat(150))));
  });
});

describe('plainer()', () => {
  it('leaves nothing that is not ASCII', () => {
    assert.match(plainer('✓ ü – … 😀', plain), /^[\x20-\x7e]+$/);
    assert.equal(plainer('✓ ü', rich), '✓ ü');
  });
});

describe('findingStyle()', () => {
  for (const [env, isTerminal, isUnicode, isColored] of [
    [{ LANG: 'de_DE.UTF-8' }, true, true, true],
    [{ LANG: 'de_DE.UTF-8', LC_ALL: 'C' }, true, false, true],
    [{ LC_CTYPE: 'C.utf8', LANG: 'C' }, true, true, true],
    [{ LANG: 'C.UTF-8', NO_COLOR: '1' }, true, true, false],
    [{ LANG: 'C.UTF-8', TERM: 'dumb' }, true, true, false],
    [{ LANG: 'C.UTF-8' }, false, true, false],
    [{ WT_SESSION: 'x' }, true, true, true],
    [{}, false, false, false],
  ] as const) {
    it(`${JSON.stringify(env)} ${isTerminal ? 'at' : 'without'} a terminal`, () =>
      assert.deepEqual(findingStyle(env, isTerminal), { isUnicode, isColored }));
  }
});

describe('toJsonFinding()', () => {
  for (const [status, verdict] of [
    ['ok', 'good'],
    ['warning', 'costly'],
    ['error', 'failed'],
    ['skipped', 'unchecked'],
  ] as const) {
    it(`says ${verdict} for ${status}, and keeps all other fields`, () => {
      const { status: _, ...rest } = finding;
      assert.deepEqual(toJsonFinding({ ...finding, status }), { ...rest, verdict });
    });
  }
});
