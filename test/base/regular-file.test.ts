import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { NotRegularFileError, readRegularFile, readRegularFileSync } from '../../base/regular-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'postern-regular-'));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

/** Both ways of reading, with the same outcome. */
async function read(file: string, maxBytes = 100_000): Promise<Buffer> {
  const first = await readRegularFile(file, maxBytes).then(
    ({ bytes }) => bytes,
    (error: Error) => error,
  );
  if (first instanceof Error) {
    assert.throws(() => readRegularFileSync(file, maxBytes), { name: first.name, message: first.message });
    throw first;
  }
  assert.ok(first.equals(readRegularFileSync(file, maxBytes)));
  return first;
}

describe('readRegularFile()', () => {
  it('reads files of every length up to the limit, by a link too', async () => {
    for (const length of [0, 1, 65_535, 65_536, 65_537, 100_000]) {
      writeFileSync(at('file'), 'x'.repeat(length));
      assert.equal((await read(at('file'))).length, length);
    }
    symlinkSync(at('file'), at('link'));
    assert.equal((await read(at('link'))).length, 100_000);
    await assert.rejects(read(at('file'), 99_999), /is larger than 99999 bytes/);
    await assert.rejects(read(at('nowhere')), { code: 'ENOENT' });
  });

  it('waits for no pipe and no device', async () => {
    execFileSync('mkfifo', [at('pipe')]);
    mkdirSync(at('directory'));
    for (const file of [at('pipe'), '/dev/zero', '/dev/null', '/dev/tty'])
      await assert.rejects(read(file), (error: Error) => {
        assert.ok(error instanceof NotRegularFileError || (error as NodeJS.ErrnoException).code === 'ENXIO');
        return true;
      });
    await assert.rejects(read(at('directory')), /is a directory/);
  });

  it('looks at the file before it reads it', async () => {
    writeFileSync(at('checked'), 'x');
    await assert.rejects(
      readRegularFile(at('checked'), 10, () => {
        throw new Error('not this one');
      }),
      /not this one/,
    );
  });
});
