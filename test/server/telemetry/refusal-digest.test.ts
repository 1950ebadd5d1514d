import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RefusalDigest } from '../../../server/telemetry/refusal-digest.ts';
import type { RefusalSummary } from '../../../server/telemetry/refusal-digest.ts';
import type { SessionRecord } from '../../../server/session/sessions.ts';

function refusal(remoteAddress: string, end = 'TOKEN_INVALID', more: object = {}): SessionRecord {
  return { remoteAddress, end, ...more } as SessionRecord;
}

function digest(): { summaries: RefusalSummary[]; it: RefusalDigest; advance: (ms: number) => void } {
  let now = 0;
  const summaries: RefusalSummary[] = [];
  const it = new RefusalDigest(
    (summary) => summaries.push(summary),
    () => now,
  );
  return { summaries, it, advance: (ms) => (now += ms) };
}

describe('refusals of strangers', () => {
  it('are recorded one by one up to a rate, and counted by address and code above it; none is left out', () => {
    const { summaries, it: digested, advance } = digest();
    let single = 0;
    for (let second = 0; second < 10; second++) {
      for (let at = 0; at < 1000; at++)
        if (digested.isSingle(refusal(`192.0.2.${at % 2}`, at % 4 < 2 ? 'TOKEN_INVALID' : 'ENTRY_UNKNOWN')))
          single++;
      digested.flush();
      advance(1000);
    }
    assert.equal(single, 50 + 9 * 2);
    assert.equal(summaries.length, 40);
    assert.equal(summaries.reduce((sum, { count }) => sum + count, 0) + single, 10_000);
  });

  it('of very many addresses are counted together, so that the number of records has a bound', () => {
    const { summaries, it: digested } = digest();
    for (let at = 0; at < 5050; at++) digested.isSingle(refusal(`2001:db8:${at.toString(16)}::1`));
    digested.flush();
    assert.equal(summaries.length, 17);
    assert.deepEqual(summaries.at(-1)!.client, 'others');
    assert.equal(
      summaries.reduce((sum, { count }) => sum + count, 0),
      5000,
    );
  });

  it('of one IPv6 network count as of one address', () => {
    const { summaries, it: digested } = digest();
    for (let at = 0; at < 70; at++) digested.isSingle(refusal(`2001:db8:1:2::${at.toString(16)}`));
    digested.flush();
    assert.deepEqual(
      summaries.map(({ client, count }) => [client, count]),
      [['2001:db8:1:2::/64', 20]],
    );
  });

  it('do not count as those of people who are signed in', () => {
    const { summaries, it: digested } = digest();
    const all = Array.from({ length: 200 }, () =>
      digested.isSingle(refusal('192.0.2.1', 'TARGET_DENIED', { principal: { subject: 'alice' } })),
    );
    assert.equal(all.every(Boolean), true);
    digested.flush();
    assert.deepEqual(summaries, []);
  });
});
