import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { connectionAges } from '../../../client/resume/learned-max-age.ts';
import { temporaryDirectory } from '../support.ts';

const minute = 60_000;

describe('connectionAges()', () => {
  for (const [what, ages, limit] of [
    ['nothing', [], undefined],
    ['two cuts', [600_000, 600_000], undefined],
    ['three at the same age', [600_500, 600_000, 601_000], 600_000],
    ['three within two per cent', [3_600_000, 3_660_000, 3_590_000], 3_590_000],
    ['three further apart', [3_600_000, 3_700_000, 3_600_000], undefined],
    ['three within two seconds', [30_000, 31_900, 31_000], 30_000],
    ['three not within two seconds', [30_000, 32_500, 31_000], undefined],
    ['three of a network that flaps', [19_000, 19_000, 19_000], undefined],
    ['flaps in between', [600_000, 300, 600_000, 5000, 600_000], 600_000],
    ['a last one that does not match', [600_000, 600_000, 600_000, 90_000], undefined],
    ['three newer ones', [600_000, 600_000, 600_000, 90_000, 90_000, 90_000], 90_000],
  ] as const) {
    it(`learns ${limit ?? 'nothing'} from ${what}`, (t) => {
      const directory = temporaryDirectory(t);
      let now = 0;
      for (const age of ages) connectionAges(directory, () => (now += minute)).cutAt(age);
      assert.equal(connectionAges(directory).limitMs, limit);
    });
  }

  it('takes cuts at the same moment for one: a gateway that restarts is no limit', (t) => {
    const directory = temporaryDirectory(t);
    let now = minute;
    const ages = connectionAges(directory, () => (now += 100));
    for (let count = 0; count < 5; count++) ages.cutAt(600_000);
    assert.equal(ages.limitMs, undefined);
  });

  for (const damage of ['', '{', 'null', '[]', '{"cuts":7}', '{"cuts":[{"ageMs":"x","at":1},null,7]}']) {
    it(`takes ${JSON.stringify(damage)} for nothing and writes it anew`, (t) => {
      const directory = temporaryDirectory(t);
      const path = join(directory, 'connection-ages.json');
      writeFileSync(path, damage);
      const ages = connectionAges(directory);
      assert.equal(ages.limitMs, undefined);
      ages.cutAt(600_000.4);
      const { cuts } = JSON.parse(readFileSync(path, 'utf8')) as { cuts: { ageMs: number }[] };
      assert.deepEqual(
        cuts.map(({ ageMs }) => ageMs),
        [600_000],
      );
    });
  }

  it('is for this user only, and does not mind a directory that cannot be written', (t) => {
    const directory = join(temporaryDirectory(t), 'state');
    connectionAges(directory).cutAt(600_000);
    assert.equal(statSync(join(directory, 'connection-ages.json')).mode & 0o777, 0o600);
    connectionAges('/dev/null/state').cutAt(600_000);
  });
});
