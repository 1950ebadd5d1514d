import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Secret } from '../../../protocol/secret.ts';
import { trustedIssuers } from '../../../server/auth/jwt/issuers.ts';
import { jwtAuthenticator } from '../../../server/auth/jwt/jwt-authenticator.ts';
import { openKeyFile } from '../../../server/auth/gateway-key.ts';
import { token } from '../../../server/commands/token.ts';
import { defaultConfigText } from '../../../server/config/sample.ts';
import { loadConfig } from '../../../server/config/load.ts';
import { directoryWith, run } from './bench.ts';
import { loopbackContext } from '../support/gateway-parts.ts';

describe('postern-gateway token', () => {
  it('prints a token, and only that, which the gateway believes', async (t) => {
    const at = await directoryWith(t, { 'postern.yaml': defaultConfigText() });
    const file = join(at, 'postern.yaml');
    const args = [
      '--config',
      file,
      '--subject',
      'ci-bot',
      '--group',
      'dev',
      '--group',
      'ops',
      '--target',
      'box:22',
      '--ttl',
      '30d',
    ];
    const { code, stdout, stderr } = await run(token, args);
    assert.deepEqual([code, stderr], [0, '']);
    assert.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);

    const config = await loadConfig(file, {});
    const authenticator = jwtAuthenticator(
      trustedIssuers(config, await openKeyFile(config.keyFile), { issuerKeys: { sourcesFor: () => [] } }),
    );
    const principal = await authenticator.authenticate(
      [{ kind: 'token', token: new Secret(stdout.trim()) }],
      loopbackContext,
    );
    assert.equal(principal.issuer, config.publicUrl.href);
    assert.equal(principal.subject, 'ci-bot');
    assert.deepEqual([[...principal.groups], principal.targets], [['dev', 'ops'], ['box:22']]);
  });

  it('writes it to a file that only this user can read, whatever was there', async (t) => {
    const at = await directoryWith(t, {
      'postern.yaml': defaultConfigText(),
      token: 'longer than any token'.repeat(99),
    });
    const [file, out] = [join(at, 'postern.yaml'), join(at, 'token')];
    chmodSync(out, 0o644);
    const args = ['--config', file, '--subject', 'ci-bot', '--out', out];
    assert.deepEqual(await run(token, args), { code: 0, stdout: '', stderr: '' });
    assert.match(readFileSync(out, 'utf8'), /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    assert.equal(statSync(out).mode & 0o777, 0o600);
    const missing = await run(token, [...args.slice(0, -1), join(at, 'no/token')]);
    assert.deepEqual([missing.code, missing.stdout], [2, '']);
    assert.match(missing.stderr, /--out: cannot write .*ENOENT/);
  });

  const wrong: readonly (readonly string[])[] = [
    [],
    ['--subject', ''],
    ['--subject', 'a\nb'],
    ['--subject', 'a', '--group', ''],
    ['--subject', 'a', '--target', '*foo'],
    ['--subject', 'a', '--ttl', '8'],
    ['--subject', 'a', '--ttl', '0h'],
    ['--subject', 'a', '--ttl', '-1h'],
    ['--subject', 'a', '--ttl', '31d'],
    ['--subject', 'a', '--ttl', '1e3s'],
    ['--subject', 'a', 'more'],
    ['--subject', 'a', '--nothing'],
  ];
  for (const args of wrong) {
    it(`exits 2 for ${JSON.stringify(args)}, with nothing on stdout`, async (t) => {
      const at = await directoryWith(t, { 'postern.yaml': defaultConfigText() });
      const { code, stdout, stderr } = await run(token, ['--config', join(at, 'postern.yaml'), ...args]);
      assert.deepEqual([code, stdout], [2, '']);
      assert.match(stderr, /usage: /);
    });
  }

  it('exits 2 when the key cannot be kept', async (t) => {
    const at = await directoryWith(t, { 'postern.yaml': 'keyFile: nowhere/key.json' });
    assert.equal((await run(token, ['--config', join(at, 'postern.yaml'), '--subject', 'a'])).code, 2);
  });
});
