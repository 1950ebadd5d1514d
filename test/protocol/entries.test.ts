import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, it } from 'node:test';
import { loadEntry } from '../../client/entry/choose.ts';
import { entryNames, isEntryName, upgradePaths, upgradeTokens } from '../../protocol/entries.ts';

describe('the entry protocols', () => {
  it('name their upgrades, and the paths that are answered 426 without one', () => {
    assert.deepEqual(upgradeTokens, ['websocket', 'connect-tcp']);
    assert.deepEqual(upgradePaths, ['v4/connect', 'v4/reconnect', 'tcp/*', 'proxy/*']);
  });

  for (const name of entryNames) {
    it(`${name} has its file in server/entry and docs/entry, and its half in the client`, async () => {
      for (const file of [`server/entry/${name}.ts`, `docs/entry/${name}.md`])
        assert.ok(existsSync(new URL(`../../${file}`, import.meta.url)), file);
      assert.equal((await loadEntry(name)).name, name);
    });
  }

  for (const text of ['', 'constructor', '__proto__', 'RELAY', 7, undefined]) {
    it(`${String(text)} is none`, () => assert.equal(isEntryName(text), false));
  }
});
