import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TunnelError, isTunnelErrorCode, toTunnelError, tunnelErrors } from '../../protocol/errors.ts';

describe('tunnel errors', () => {
  for (const [code, facts] of Object.entries(tunnelErrors)) {
    it(`${code} has an exit code that is documented, and a status that fits`, () => {
      assert.ok([1, 2, 69, 74, 75, 77, 78].includes(facts.exit));
      assert.ok(facts.status === 0 || (facts.status >= 400 && facts.status < 600));
      if (facts.exit === 75) assert.equal(facts.retry, true);
      if ('hint' in facts) assert.match(facts.hint, /^postern [a-z-]/);
    });
  }

  for (const text of ['__proto__', 'constructor', 'toString', '', 7, undefined]) {
    it(`${String(text)} is no code`, () => assert.equal(isTunnelErrorCode(text), false));
  }

  it('keep what they are made from to themselves', () => {
    const cause = new Error('canary');
    const error = toTunnelError(cause);
    assert.equal(error.code, 'INTERNAL');
    assert.equal(error.cause, cause);
    assert.doesNotMatch(error.message, /canary/);
    assert.equal(toTunnelError(error), error);
    assert.equal(new TunnelError('DRAINING', 'x').facts.status, 503);
  });
});
