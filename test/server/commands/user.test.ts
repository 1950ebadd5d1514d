import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openRevocations } from '../../../server/auth/revocations.ts';
import { user as command } from '../../../server/commands/user.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import { run } from './bench.ts';
import type { Ran } from './bench.ts';

describe('postern-gateway user', () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-user-'));
  const configFile = join(folder, 'postern.yaml');
  before(() => writeFileSync(configFile, ''));
  after(() => rmSync(folder, { recursive: true }));
  const user = (args: string[], input?: string): Promise<Ran> =>
    run(command, [...args, '--config', configFile], {}, input);
  const listed = async (): Promise<Record<string, unknown>[]> =>
    JSON.parse((await user(['list', '--json'])).stdout) as Record<string, unknown>[];

  it('adds, changes and disables accounts, with the password from stdin', async () => {
    assert.equal(
      (
        await user(
          ['add', 'alice', '--group', 'dev', '--group', 'ops', '--password-stdin'],
          'correct horse\n',
        )
      ).code,
      0,
    );
    const { stdout } = await user(['add', 'bob', '--totp', '--password-stdin'], 'correct horse\r\n');
    assert.match(stdout, /^otpauth:\/\/totp\/[^ ]+secret=[A-Z2-7]{32}&issuer=127\.0\.0\.1\n$/);
    assert.equal((await user(['groups', 'bob', '--group', 'dev'])).code, 0);
    assert.equal(
      (await user(['passwd', 'bob', '--no-totp', '--password-stdin'], 'battery staple\n')).code,
      0,
    );
    assert.equal((await user(['disable', 'alice'])).code, 0);
    assert.deepEqual(
      (await listed()).map(({ name, groups, disabled, hasOneTimeCode }) => [
        name,
        groups,
        disabled,
        hasOneTimeCode,
      ]),
      [
        ['alice', ['dev', 'ops'], true, false],
        ['bob', ['dev'], false, false],
      ],
    );
    assert.equal((await user(['list'])).stdout, 'alice  dev,ops  disabled\nbob  dev\n');
    const store = await openSqliteStore(join(folder, 'postern.db'));
    const revocations = await openRevocations(store);
    const before = { issuer: 'http://127.0.0.1:8022/ssh/oauth', issuedAt: new Date(Date.now() - 60_000) };
    for (const subject of ['alice', 'bob'])
      assert.equal(revocations.isRevoked({ ...before, subject }), true, subject);
    assert.equal(revocations.isRevoked({ ...before, subject: 'alice', issuer: 'https://id.example' }), false);
    await store.close();
    assert.equal((await user(['enable', 'alice'])).code, 0);
  });

  const wrong: [args: string[], input?: string][] = [
    [[]],
    [['dance', 'alice']],
    [['add']],
    [['add', 'a:b', '--password-stdin'], 'correct horse'],
    [['add', 'carol', 'dora', '--password-stdin'], 'correct horse'],
    [['add', 'alice', '--password-stdin'], 'correct horse'],
    [['add', 'carol', '--password-stdin'], 'short'],
    [['add', 'carol', '--password-stdin'], ''],
    [['add', 'carol', '--password', 'in the arguments']],
    // No terminal to ask at.
    [['add', 'carol'], 'correct horse'],
    [['passwd', 'nobody', '--password-stdin'], 'correct horse'],
    [['disable', 'nobody']],
    [['list', 'alice']],
    [['list', '--group', 'dev']],
  ];
  for (const [args, input] of wrong) {
    it(`refuses ${JSON.stringify(args)}${input === undefined ? '' : ` with ${JSON.stringify(input)}`}`, async () => {
      const { code, stderr } = await user(args, input);
      assert.equal(code, 2);
      assert.match(stderr, /^postern-gateway: /);
    });
  }
});
