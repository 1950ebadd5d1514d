import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { firstError, skipped } from '../../diagnostics/finding.ts';
import type { Finding } from '../../diagnostics/finding.ts';

const finding: Finding = { check: 'tls', title: 'TLS', status: 'error', what: 'x' };

describe('firstError()', () => {
  it('skips what is only a warning', () => {
    const warning: Finding = { ...finding, status: 'warning' };
    assert.equal(firstError([warning, finding, { ...finding }]), finding);
    assert.equal(firstError([warning]), undefined);
  });
});

describe('skipped()', () => {
  it('says why', () =>
    assert.deepEqual(skipped({ check: 'tls', title: 'TLS' }, 'you stopped it'), {
      check: 'tls',
      title: 'TLS',
      status: 'skipped',
      what: 'not checked: you stopped it',
    }));
});
