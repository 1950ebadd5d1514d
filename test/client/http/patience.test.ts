import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ClientError } from '../../../client/errors/failure.ts';
import type { Interruption } from '../../../client/errors/failure.ts';
import { Patience } from '../../../client/http/patience.ts';
import { parseRetryAfter } from '../../../client/http/refusal.ts';

function lost(interruption: Interruption): ClientError {
  return new ClientError('HTTP_UNEXPECTED', 'lost', { interruption });
}

describe('Patience', () => {
  it('spreads the pauses of clients that were cut off together', () => {
    const pauses = Array.from({ length: 200 }, () => new Patience().pauseMs(lost({ how: 'lost' }))!);
    assert.ok(pauses.every((ms) => ms >= 75 && ms <= 225));
    const tenths = new Set(pauses.map((ms) => Math.floor((ms - 75) / 15)));
    assert.equal(tenths.size, 10);
  });

  it('pauses longer each time, up to a second and a half', () => {
    const patience = new Patience();
    const pauses = Array.from({ length: 30 }, () => patience.pauseMs(lost({ how: 'lost' }))!);
    assert.ok(pauses.every((ms, at) => ms <= Math.min(1500, 225 * 2 ** at)));
    assert.ok(pauses.slice(5).every((ms) => ms >= 500));
  });

  it('waits as long as it is told to, and a little longer, but never beyond its time', () => {
    const pause = new Patience().pauseMs(lost({ how: 'unavailable', retryAfterMs: 5000 }))!;
    assert.ok(pause >= 5000 && pause <= 6000);
    assert.equal(new Patience().pauseMs(lost({ how: 'unavailable', retryAfterMs: 9000 })), undefined);
  });

  it('repeats no more often than the failure allows', () => {
    const patience = new Patience();
    const pause = (): number | undefined => patience.pauseMs(lost({ how: 'lost', repeats: 2 }));
    assert.notEqual(pause(), undefined);
    assert.notEqual(pause(), undefined);
    assert.equal(pause(), undefined);
  });

  for (const code of ['TOKEN_INVALID', 'TARGET_DENIED', 'LIMIT_SUBJECT', 'TLS_FAILED'] as const) {
    it(`does not repeat ${code}`, () => {
      assert.equal(new Patience().pauseMs(new ClientError(code, 'refused')), undefined);
    });
  }
});

describe('parseRetryAfter()', () => {
  for (const [value, ms] of [
    ['3', 3000],
    ['0', 0],
    ['-1', undefined],
    ['soon', undefined],
    ['Fri, 31 Dec 1999 23:59:59 GMT', 0],
  ] as const) {
    it(`reads ${value}`, () => assert.equal(parseRetryAfter({ 'retry-after': value }), ms));
  }

  it('reads a time by the clock of the server, not by ours', () => {
    const fields = { date: 'Fri, 31 Dec 1999 23:59:50 GMT', 'retry-after': 'Fri, 31 Dec 1999 23:59:59 GMT' };
    assert.equal(parseRetryAfter(fields), 9000);
  });
});
