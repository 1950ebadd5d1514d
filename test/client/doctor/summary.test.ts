import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { summarize } from '../../../client/doctor/summary.ts';
import type { Finding, CheckStatus } from '../../../diagnostics/finding.ts';

function found(check: string, verdict: CheckStatus, code?: Finding['code']): Finding {
  return { check, title: check, verdict, what: 'x', ...(code === undefined ? {} : { code }) };
}

const box = { host: 'box', port: 22 };

describe('judge()', () => {
  it('says that ssh works when the SSH server greets', () => {
    const findings = [found('tls', 'costly'), found('ssh', 'good'), found('idle', 'unchecked')];
    const { works, exit, words } = summarize(findings, box, false);
    assert.deepEqual([works, exit], [true, 0]);
    assert.match(words, /Worth a look: tls\./);
  });

  it('exits as the first failure', () => {
    const findings = [
      found('sign-in', 'failed', 'TOKEN_MISSING'),
      found('entry-relay', 'failed', 'UPGRADE_REFUSED'),
    ];
    assert.deepEqual(summarize(findings, box, false), {
      works: false,
      exit: 77,
      words: 'ssh to box:22 cannot work. What comes first: sign-in.',
    });
  });

  it('does not say that ssh works where nobody has looked', () => {
    const findings = [found('tls', 'good'), found('ssh', 'unchecked')];
    assert.deepEqual([summarize(findings, box, false).works, summarize(findings, box, false).exit], [false, 75]);
    assert.equal(summarize(findings, box, true).exit, 130);
  });

  it('is content with the gateway where no host was named', () => {
    assert.equal(summarize([found('policy', 'good')], undefined, false).exit, 0);
    assert.equal(summarize([found('gateway', 'good')], undefined, false).exit, 75);
  });
});
