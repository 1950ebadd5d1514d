import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { decodeProtectedHeader } from 'jose';
import { Secret } from '../../../protocol/secret.ts';
import { fixedKeys } from '../../../server/auth/jwt/jwks-cache.ts';
import { jwtAuthenticator } from '../../../server/auth/jwt/jwt-authenticator.ts';
import { issueToken, loadKeyFile, openKeyFile, ownAudience } from '../../../server/auth/gateway-key.ts';
import type { SigningKey } from '../../../server/auth/gateway-key.ts';
import { loopbackContext } from '../support/gateway-parts.ts';

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'postern-keys-'));
  t.after(() => rm(path, { recursive: true }));
  return path;
}

const request = {
  issuer: 'https://gw.example/ssh/',
  audience: ownAudience,
  subject: 'alice',
  groups: ['dev'],
  ttlMs: 3_600_000,
  now: 1_800_000_000_000,
};

function authenticate(key: SigningKey, text: string) {
  const issuer = {
    issuer: request.issuer,
    audience: ownAudience,
    groupsClaim: 'groups',
    typ: 'at+jwt',
    algorithms: ['EdDSA'] as const,
    maxLifetimeMs: 36e5,
    keys: fixedKeys(key.publicKeys),
  };
  const authenticator = jwtAuthenticator([issuer], { now: () => request.now });
  return authenticator.authenticate([{ kind: 'token', token: new Secret(text) }], loopbackContext);
}

describe('openKeyFile()', () => {
  it('creates a key of mode 0600 at first use, whatever the umask, and leaves nothing else', async (t) => {
    const at = await directory(t);
    const file = join(at, 'key.json');
    const before = process.umask(0);
    const made = await openKeyFile(file).finally(() => process.umask(before));
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(at), ['key.json']);
    assert.equal(made.kid.length, 8);
    assert.deepEqual((await openKeyFile(file)).publicKeys, made.publicKeys);
  });

  it('gives one key to all processes that create it at once', async (t) => {
    const file = join(await directory(t), 'key.json');
    const keys = await Promise.all(Array.from({ length: 8 }, () => openKeyFile(file)));
    assert.equal(new Set(keys.map(({ kid }) => kid)).size, 1);
  });

  it('keeps the private part to itself', async (t) => {
    const file = join(await directory(t), 'key.json');
    const { publicKeys, privateKey } = await openKeyFile(file);
    assert.ok(!JSON.stringify(publicKeys).includes('"d"'));
    assert.equal(privateKey.extractable, false);
  });

  for (const mode of [0o640, 0o604, 0o660, 0o644]) {
    it(`refuses a file of mode 0${mode.toString(8)}`, async (t) => {
      const file = join(await directory(t), 'key.json');
      await openKeyFile(file);
      await chmod(file, mode);
      await assert.rejects(openKeyFile(file), { code: 'CONFIG_INVALID' });
    });
  }

  for (const text of [
    '',
    'x',
    'null',
    '[]',
    '{}',
    '{"keys":[]}',
    '{"keys":[{}]}',
    '{"keys":[null]}',
    '{"keys":[{"kty":"oct","k":"x","kid":"a"}]}',
  ]) {
    it(`refuses a file with ${JSON.stringify(text)}, and does not write over it`, async (t) => {
      const file = join(await directory(t), 'key.json');
      await writeFile(file, text, { mode: 0o600 });
      await assert.rejects(openKeyFile(file), { code: 'CONFIG_INVALID' });
      assert.equal(await readFile(file, 'utf8'), text);
    });
  }

  it('refuses a key without its private part', async (t) => {
    const at = await directory(t);
    const { publicKeys } = await openKeyFile(join(at, 'key.json'));
    await writeFile(join(at, 'public.json'), JSON.stringify(publicKeys), { mode: 0o600 });
    await assert.rejects(openKeyFile(join(at, 'public.json')), { code: 'CONFIG_INVALID' });
  });

  it('refuses a directory, and a file in a directory that does not exist', async (t) => {
    const at = await directory(t);
    await mkdir(join(at, 'key.json'), { mode: 0o700 });
    await assert.rejects(openKeyFile(join(at, 'key.json')), { code: 'CONFIG_INVALID' });
    await assert.rejects(openKeyFile(join(at, 'nowhere', 'key.json')), { code: 'CONFIG_INVALID' });
  });

  it('trusts the older keys of the file and signs with the first', async (t) => {
    const at = await directory(t);
    const old = await openKeyFile(join(at, 'old.json'));
    const issued = await issueToken(old, request);
    await openKeyFile(join(at, 'new.json'));
    const files = await Promise.all(['new.json', 'old.json'].map((name) => readFile(join(at, name), 'utf8')));
    const keys = files.flatMap((text) => (JSON.parse(text) as { keys: unknown[] }).keys);
    await writeFile(join(at, 'both.json'), JSON.stringify({ keys }), { mode: 0o600 });
    const both = await loadKeyFile(join(at, 'both.json'));
    assert.notEqual(both!.kid, old.kid);
    assert.equal((await authenticate(both!, issued)).subject, 'alice');
  });
});

describe('issueToken()', () => {
  it('makes a short token that the gateway accepts', async (t) => {
    const key = await openKeyFile(join(await directory(t), 'key.json'));
    const issued = await issueToken(key, { ...request, targets: ['box'] });
    assert.ok(issued.length < 400, String(issued.length));
    assert.deepEqual(decodeProtectedHeader(issued), { alg: 'EdDSA', typ: 'at+jwt', kid: key.kid });
    const principal = await authenticate(key, issued);
    assert.equal(principal.subject, 'alice');
    assert.deepEqual([[...principal.groups], principal.targets], [['dev'], ['box']]);
    assert.equal(principal.expiresAt.getTime(), request.now + request.ttlMs);
    assert.ok(Buffer.from(principal.tokenId!, 'base64url').length >= 9);
  });

  it('has the time of issue to the millisecond', async (t) => {
    const key = await openKeyFile(join(await directory(t), 'key.json'));
    const principal = await authenticate(key, await issueToken(key, { ...request, now: request.now + 7 }));
    assert.equal(principal.issuedAt.getTime(), request.now + 7);
  });

  it('never makes the same token twice', async (t) => {
    const key = await openKeyFile(join(await directory(t), 'key.json'));
    const issued = await Promise.all(
      Array.from({ length: 50 }, () => issueToken(key, { ...request, groups: [] })),
    );
    assert.equal(new Set(issued).size, 50);
  });
});
