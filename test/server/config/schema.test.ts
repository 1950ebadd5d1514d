import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { internalName, sectionShape, settingMeta } from '../../../server/config/setting-types.ts';
import { configJsonSchema, settingsOutline } from '../../../server/config/schema.ts';

const published = new URL('../../../deploy/postern.schema.json', import.meta.url);

it('deploy/postern.schema.json is the schema of the settings (POSTERN_WRITE_SCHEMA=1 writes it anew)', async () => {
  const schema = configJsonSchema();
  if (process.env['POSTERN_WRITE_SCHEMA'] === '1')
    await writeFile(published, JSON.stringify(schema, null, 2));
  assert.deepEqual(JSON.parse(await readFile(published, 'utf8')), schema);
});

describe('the settings schema', () => {
  it('says of every key at the top whether a reload takes it', () => {
    const silent = Object.entries(settingsOutline.shape).filter(
      ([, schema]) => settingMeta(schema).reload === undefined,
    );
    assert.deepEqual(
      silent.map(([key]) => key),
      [],
    );
  });

  for (const [key, unit] of unitsBelow(settingsOutline, '')) {
    it(`has ${key} in the unit that ends its name`, () => {
      const name = key.split('.').at(-1)!;
      if (unit !== undefined) assert.ok(name.endsWith(unit) && name !== unit);
      assert.equal(internalName(name) !== name, unit !== undefined);
    });
  }
});

function unitsBelow(schema: unknown, prefix: string): readonly (readonly [string, string | undefined])[] {
  return Object.entries(sectionShape(schema) ?? {}).flatMap(([key, each]) =>
    sectionShape(each)
      ? unitsBelow(each, `${prefix}${key}.`)
      : [[`${prefix}${key}`, settingMeta(each).unit] as const],
  );
}
