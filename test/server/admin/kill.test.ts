import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { KillRequest } from '../../../server/admin/control.ts';
import { endSessions, killSessions } from '../../../server/admin/kill.ts';
import type { Revocation } from '../../../server/auth/revocation.ts';
import { Sessions } from '../../../server/session/sessions.ts';
import { alice } from '../support/pipeline-parts.ts';

const held: Revocation[] = [];
const parts = {
  keepMs: 1000,
  revoke: async (): Promise<void> => {},
  momentOf: async (): Promise<number> => Date.now(),
  now: () => Date.now(),
  hold: (each: Revocation) => void held.push(each),
};
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
  await killSessions(
    sessionsOf(),
    { ...parts, revoke: async (each: Revocation) => void revocations.push(each) },
    killing,
  );
  return revocations;
}

describe('endSessions()', () => {
  it('ends the sessions that match, and returns how many', () => {
    const sessions = sessionsOf('alice', 'bob');
    assert.equal(endSessions(sessions, parts, { ...request, subject: 'alice' }), 1);
    assert.equal(sessions.find('alice')!.signal.reason, 'KILLED');
  });

  it('leaves the others alone', () => {
    const sessions = sessionsOf('alice', 'bob');
    endSessions(sessions, parts, { ...request, subject: 'alice' });
    assert.equal(sessions.find('bob')!.signal.aborted, false);
  });

  it('holds at once what another process revokes', () => {
    endSessions(sessionsOf(), parts, { ...request, subject: 'alice', revoke: true });
    const [first] = held.filter((each) => each.kind === 'subject');
    assert.equal(first?.subject, 'alice');
  });
});

describe('killSessions()', () => {
  it('resolves to how many have ended', async () => {
    const killing = { ...request, subject: 'alice' };
    assert.deepEqual(await killSessions(sessionsOf('alice', 'bob'), parts, killing), { ended: 1 });
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

  it('says until when it holds, and that it is stored', async () => {
    const startedAt = Date.now();
    const { revoked } = await killSessions(sessionsOf(), parts, {
      ...request,
      subject: 'alice',
      revoke: true,
    });
    assert.ok(revoked?.stored && revoked.issuedUntil! >= startedAt && revoked.issuedUntil! <= Date.now());
    assert.equal(revoked.otherIssuersUntil, revoked.issuedUntil! + 30_000);
    assert.ok(revoked.keptUntil >= startedAt + 1000);
  });

  it('ends the sessions and says why, when the store cannot be written or does not answer', async () => {
    const killing = { ...request, subject: 'alice', revoke: true };
    const failing = { ...parts, revoke: () => Promise.reject(new Error('the disk is full')) };
    const failed = await killSessions(sessionsOf('alice'), failing, killing);
    assert.deepEqual(
      [failed.ended, failed.revoked?.stored, failed.revoked?.why],
      [1, false, 'the disk is full'],
    );
    const hanging = { ...parts, revoke: () => new Promise<void>(() => {}) };
    const unanswered = await killSessions(sessionsOf('alice'), hanging, killing);
    assert.deepEqual([unanswered.ended, unanswered.revoked?.stored], [1, false]);
  });
});
