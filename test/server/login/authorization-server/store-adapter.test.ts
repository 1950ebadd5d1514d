import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { storeAdapter } from '../../../../server/login/authorization-server/store-adapter.ts';
import { openSqliteStore } from '../../../../server/store/open-store.ts';
import type { Store } from '../../../../server/store/store.ts';

describe('what the authorization server remembers', () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-adapter-'));
  const ended: string[] = [];
  let store: Store;
  let clock = 1_000_000_000_000;
  const adapterOf = (model: string) =>
    storeAdapter(store, {
      onGrantEnded: async (id) => void ended.push(id),
      onReplay: () => new RangeError('twice'),
      now: () => clock,
    })(model);
  before(async () => (store = await openSqliteStore(join(folder, 'db'), { now: () => clock })));
  after(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });

  it('is found by its id, by the uid of a session and by the code of a device', async () => {
    await adapterOf('Session').upsert('s1', { jti: 's1', uid: 'u1' }, 60);
    await adapterOf('DeviceCode').upsert('d1', { jti: 'd1', userCode: 'BCDF' }, 60);
    assert.deepEqual(await adapterOf('Session').find('s1'), { jti: 's1', uid: 'u1' });
    assert.deepEqual(await adapterOf('Session').findByUid('u1'), { jti: 's1', uid: 'u1' });
    assert.deepEqual(await adapterOf('DeviceCode').findByUserCode('BCDF'), { jti: 'd1', userCode: 'BCDF' });
  });

  it('is not found as something else', async () => {
    await adapterOf('RefreshToken').upsert('x', { jti: 'x' }, 60);
    assert.equal(await adapterOf('AuthorizationCode').find('x'), undefined);
  });

  it('is deleted when its time is over', async () => {
    await adapterOf('AuthorizationCode').upsert('late', { jti: 'late' }, 60);
    clock += 61_000;
    assert.equal(await adapterOf('AuthorizationCode').find('late'), undefined);
  });

  it('is consumed once, however many try', async () => {
    const codes = adapterOf('AuthorizationCode');
    await codes.upsert('c1', { jti: 'c1' }, 60);
    const tries = await Promise.allSettled(Array.from({ length: 10 }, () => codes.consume('c1')));
    assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, 1);
    assert.equal(((await codes.find('c1')) as { consumed: number }).consumed, Math.floor(clock / 1000));
    await assert.rejects(codes.consume('never'), RangeError);
  });

  it('is deleted with its grant, and the end of the grant is reported', async () => {
    await adapterOf('RefreshToken').upsert('r1', { jti: 'r1', grantId: 'g1' }, 60);
    await adapterOf('RefreshToken').upsert('r2', { jti: 'r2', grantId: 'g2' }, 60);
    await adapterOf('AuthorizationCode').upsert('c2', { jti: 'c2', grantId: 'g1' }, 60);
    await adapterOf('RefreshToken').revokeByGrantId('g1');
    await adapterOf('Grant').destroy('g1');
    assert.equal(await adapterOf('RefreshToken').find('r1'), undefined);
    assert.equal(await adapterOf('AuthorizationCode').find('c2'), undefined);
    assert.ok(await adapterOf('RefreshToken').find('r2'));
    assert.deepEqual(ended, ['g1']);
  });

  it('holds a proof once, however many bring it', async () => {
    const proofs = adapterOf('ReplayDetection');
    const tries = await Promise.allSettled(
      Array.from({ length: 10 }, () => proofs.upsert('p', { jti: 'p' }, 60)),
    );
    assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, 1);
  });
});
