import assert from 'node:assert/strict';
import { chmod, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { check } from '../../../server/commands/check.ts';
import { token } from '../../../server/commands/token.ts';
import { defaultConfigText } from '../../../server/config/sample.ts';
import { directoryWith, run } from './bench.ts';

describe('postern-gateway check', () => {
  it('says ok of the default settings, and makes no file', async (t) => {
    const at = await directoryWith(t, { 'postern.yaml': defaultConfigText() });
    const { code, stdout, stderr } = await run(check, ['--config', join(at, 'postern.yaml')]);
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /: ok\n$/);
    assert.deepEqual(await readdir(at), ['postern.yaml']);
  });

  it('says every problem with file and line and exits 2', async (t) => {
    const at = await directoryWith(t, { 'postern.yaml': 'listn: x\nlimits: { tunnels: 0 }\n' });
    const file = join(at, 'postern.yaml');
    const { code, stdout, stderr } = await run(check, ['--config', file], { POSTERN__NOTHING: '1' });
    assert.deepEqual([code, stdout], [2, '']);
    const starts = stderr
      .trimEnd()
      .split('\n')
      .map((line) => line.split(': ')[0]);
    assert.deepEqual(new Set(starts), new Set(['POSTERN__NOTHING', `${file}:1`, `${file}:2`]));
  });

  it('exits 2 for a file that is not there, and for arguments it does not know', async (t) => {
    const at = await directoryWith(t, {});
    assert.equal((await run(check, ['--config', join(at, 'postern.yaml')])).code, 2);
    assert.equal((await run(check, ['--confg', 'x'])).code, 2);
    assert.equal((await run(check, ['more'])).code, 2);
  });

  it('warns of files the gateway could not use and of what is likely a mistake', async (t) => {
    const at = await directoryWith(t, {
      'key.json': '{}',
      'postern.yaml': `
listen: 0.0.0.0:8022
admin: 0.0.0.0:9464
publicUrl: https://gw.example/ssh/
keyFile: key.json
tls: { certFile: none.pem, keyFile: none.pem }
issuers: [{ issuer: ci, audience: postern, jwksFile: none.json }]
rules: [{ groups: [dev], targets: [a.example] }]
audit: { file: nowhere/audit.jsonl }
`,
    });
    const { code, stderr } = await run(check, ['--config', join(at, 'postern.yaml')]);
    assert.equal(code, 0);
    for (const part of ['keyFile', 'tls', 'the keys of ci', 'audit.file', 'admin', 'rule 1']) {
      assert.match(stderr, new RegExp(`warning: ${part}`));
    }
  });

  it('warns of a key that others can read', async (t) => {
    const at = await directoryWith(t, { 'postern.yaml': defaultConfigText() });
    const config = ['--config', join(at, 'postern.yaml')];
    await run(token, [...config, '--subject', 'alice']);
    assert.equal((await run(check, config)).stderr, '');
    await chmod(join(at, 'postern-key.json'), 0o644);
    assert.match((await run(check, config)).stderr, /warning: keyFile/);
  });
});
