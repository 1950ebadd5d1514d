import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Finding } from '../../diagnostics/finding.ts';
import { idOf, runChecks } from '../../diagnostics/run-checks.ts';
import type { Check, RunOptions } from '../../diagnostics/run-checks.ts';

interface Facts {
  readonly name: string;
}

type TestCheck = Check<undefined, Facts>;

function checkThat(name: string, run: TestCheck['run'], needs: TestCheck['needs'] = []): TestCheck {
  return { name, title: name.toUpperCase(), needs, limitMs: 30, run };
}

const found = checkThat('found', () =>
  Promise.resolve({
    findings: [{ ...idOf(found), status: 'ok', what: 'it is there' }],
    found: { name: 'box' },
  }),
);
const needing = checkThat(
  'needing',
  ({ name = '' }) => Promise.resolve({ findings: [{ ...idOf(needing), status: 'ok', what: name }] }),
  ['name'],
);
const failing = checkThat('failing', () => Promise.reject(new Error('broken')));
const silent = checkThat('silent', () => new Promise(() => {}));

function options(over: Partial<RunOptions<undefined, Facts>> = {}): RunOptions<undefined, Facts> {
  return {
    context: undefined,
    signal: new AbortController().signal,
    onFinding: () => {},
    providers: { name: 'the name' },
    onError: (check, error) => ({ ...idOf(check), status: 'error', what: (error as Error).message }),
    onTimeout: (check) => ({ ...idOf(check), status: 'error', what: 'no answer' }),
    ...over,
  };
}

function summaryOf(findings: readonly Finding[]): string[] {
  return findings.map(({ check, status, what }) => `${check} ${status}: ${what}`);
}

describe('runChecks()', () => {
  it('passes facts on to the checks after, and reports each finding when it is there', async () => {
    const reported: Finding[] = [];
    const findings = await runChecks([found, needing], options({ onFinding: (one) => reported.push(one) }));
    assert.deepEqual(summaryOf(findings), ['found ok: it is there', 'needing ok: box']);
    assert.deepEqual(reported, findings);
  });

  it('skips a check whose facts are missing, and names what has to work first', async () => {
    assert.deepEqual(summaryOf(await runChecks([needing], options())), [
      'needing skipped: not checked: the name has to work first',
    ]);
  });

  it('reports an error and a timeout as findings, and goes on', async () => {
    assert.deepEqual(summaryOf(await runChecks([failing, silent, found], options())), [
      'failing error: broken',
      'silent error: no answer',
      'found ok: it is there',
    ]);
  });

  it('reports the rest as skipped when the user stops it', async () => {
    const stop = new AbortController();
    const stopping = checkThat('stopping', () => {
      stop.abort();
      return Promise.reject(new Error('aborted'));
    });
    assert.deepEqual(summaryOf(await runChecks([stopping, found], options({ signal: stop.signal }))), [
      'stopping skipped: not checked: you stopped it',
      'found skipped: not checked: you stopped it',
    ]);
  });

  it('ends all checks but one after the limit for all of them', async () => {
    const total = { ms: 1, unlimited: found };
    const slow = checkThat(
      'slow',
      (_found, _context, signal) =>
        new Promise((_resolve, reject) =>
          setTimeout(() => reject(new Error('late')), signal.aborted ? 0 : 20),
        ),
    );
    assert.deepEqual(summaryOf(await runChecks([slow, found, needing], options({ total }))), [
      'slow skipped: not checked: the 0.001 seconds for all checks had passed',
      'found ok: it is there',
      'needing skipped: not checked: the 0.001 seconds for all checks had passed',
    ]);
  });
});
