import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { it } from 'node:test';
import { configJsonSchema } from '../../../server/config/schema.ts';

const published = new URL('../../../deploy/postern.schema.json', import.meta.url);

it('deploy/postern.schema.json is the schema of the settings (POSTERN_WRITE_SCHEMA=1 writes it anew)', async () => {
  const schema = configJsonSchema();
  if (process.env['POSTERN_WRITE_SCHEMA'] === '1')
    await writeFile(published, JSON.stringify(schema, null, 2));
  assert.deepEqual(JSON.parse(await readFile(published, 'utf8')), schema);
});
