import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { KillRequest } from '../../../server/admin/control.ts';
import { endSessions, killSessions } from '../../../server/admin/kill.ts';
import type { Revocation } from '../../../server/auth/revocations.ts';
import { Sessions } from '../../../server/session/sessions.ts';
import { alice } from '../support/pipeline-parts.ts';

const request = { revoke: false, reason: 'a test' };

function sessionsOf(...subjects: readonly string[]): Sessions {
  const sessions = new Sessions([]);
  for (const subject of subjects) {
    const origin = { id: subject, entry: 'test', requested: 'box:22', remoteAddress: '192.0.2.1' };
    sessions.begin(origin).identified({ ...alice, subject });
  }
  return sessions;
}

async function revokedBy(killing: KillRequest): Promise<readonly Revocation[]> {
  const revocations: Revocation[] = [];
  await killSessions(sessionsOf(), { revoke: async (each) => void revocations.push(each) }, killing);
  return revocations;
}

describe('endSessions()', () => {
  it('ends the sessions that match, and returns how many', () => {
    const sessions = sessionsOf('alice', 'bob');
    assert.equal(endSessions(sessions, { ...request, subject: 'alice' }), 1);
    assert.equal(sessions.find('alice')!.signal.reason, 'KILLED');
  });

  it('leaves the others alone', () => {
    const sessions = sessionsOf('alice', 'bob');
    endSessions(sessions, { ...request, subject: 'alice' });
    assert.equal(sessions.find('bob')!.signal.aborted, false);
  });
});

describe('killSessions()', () => {
  it('resolves to how many have ended', async () => {
    const killing = { ...request, subject: 'alice' };
    assert.equal(await killSessions(sessionsOf('alice', 'bob'), { revoke: async () => {} }, killing), 1);
  });

  it('revokes a token', async () => {
    assert.deepEqual(await revokedBy({ ...request, tokenId: 't1' }), [{ kind: 'token', tokenId: 't1' }]);
  });

  it('revokes a key', async () => {
    assert.deepEqual(await revokedBy({ ...request, keyThumbprint: 'k' }), [
      { kind: 'key', keyThumbprint: 'k' },
    ]);
  });

  it('does not revoke a subject without being told to', async () => {
    assert.deepEqual(await revokedBy({ ...request, subject: 'alice' }), []);
  });

  it('revokes everything of a subject that was issued until now', async () => {
    const [revocation] = await revokedBy({ ...request, subject: 'alice', issuer: 'test', revoke: true });
    assert.ok(revocation?.kind === 'subject' && revocation.issuedBefore <= Date.now());
    const { subject, issuer } = revocation;
    assert.deepEqual({ subject, issuer }, { subject: 'alice', issuer: 'test' });
  });
});
