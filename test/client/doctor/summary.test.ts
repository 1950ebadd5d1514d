import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { summarize } from '../../../client/doctor/summary.ts';
import type { Finding, CheckStatus } from '../../../diagnostics/finding.ts';

function found(check: string, status: CheckStatus, code?: Finding['code']): Finding {
  return { check, title: check, status, what: 'x', ...(code === undefined ? {} : { code }) };
}

const box = { host: 'box', port: 22 };

describe('summarize()', () => {
  it('says that ssh works when the SSH server greets', () => {
    const findings = [found('tls', 'warning'), found('ssh', 'ok'), found('idle', 'skipped')];
    const { works, exit, words } = summarize(findings, box, false);
    assert.deepEqual([works, exit], [true, 0]);
    assert.match(words, /Worth a look: tls\./);
  });

  it('exits as the first failure', () => {
    const findings = [
      found('sign-in', 'error', 'TOKEN_MISSING'),
      found('entry-relay', 'error', 'UPGRADE_REFUSED'),
    ];
    assert.deepEqual(summarize(findings, box, false), {
      works: false,
      exit: 77,
      words: 'ssh to box:22 cannot work. What comes first: sign-in.',
    });
  });

  it('does not say that ssh works where nothing was checked', () => {
    const findings = [found('tls', 'ok'), found('ssh', 'skipped')];
    assert.deepEqual(
      [summarize(findings, box, false).works, summarize(findings, box, false).exit],
      [false, 75],
    );
    assert.equal(summarize(findings, box, true).exit, 130);
  });

  it('is content with the gateway where no host was named', () => {
    assert.equal(summarize([found('policy', 'ok')], undefined, false).exit, 0);
    assert.equal(summarize([found('gateway', 'ok')], undefined, false).exit, 75);
  });
});
