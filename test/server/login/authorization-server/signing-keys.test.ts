import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  keyLifeMs,
  keyRestMs,
  openSigningKeys,
} from '../../../../server/login/authorization-server/signing-keys.ts';
import { openSqliteStore } from '../../../../server/store/open-store.ts';
import type { Store } from '../../../../server/store/store.ts';

describe('the keys of the sign-in', () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-keys-'));
  let store: Store;
  let clock = 1_000_000_000_000;
  const now = () => clock;
  before(async () => (store = await openSqliteStore(join(folder, 'db'), { now })));
  after(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });

  it('are made once, and there after a restart', async () => {
    const first = await openSigningKeys(store, { now });
    const again = await openSigningKeys(store, { now });
    assert.equal(first.current.length, 1);
    assert.deepEqual(again.current, first.current);
    assert.deepEqual(again.secrets, first.secrets);
    assert.equal(first.current[0].alg, 'ES256');
    first.close();
    again.close();
  });

  it('are renewed when they are old; the one before is trusted until no token of it can be left', async () => {
    const keys = await openSigningKeys(store, { now });
    const [old] = keys.current;
    clock += keyLifeMs;
    await keys.refresh();
    assert.equal(keys.current.length, 2);
    assert.notEqual(keys.current[0].kid, old.kid);
    assert.equal((await keys.source.find({ alg: 'ES256', kid: old.kid! })).length, 1);
    clock += keyRestMs;
    await keys.refresh();
    assert.equal(keys.current.length, 1);
    assert.deepEqual(await keys.source.find({ alg: 'ES256', kid: old.kid! }), []);
    keys.close();
  });

  it('are those of the first process, for all that share the store', async () => {
    const [one, other] = await Promise.all([
      openSigningKeys(store, { now }),
      openSigningKeys(store, { now }),
    ]);
    clock += keyLifeMs;
    await Promise.all([one.refresh(), other.refresh()]);
    await Promise.all([one.refresh(), other.refresh()]);
    assert.deepEqual(one.current, other.current);
    one.close();
    other.close();
  });
});
