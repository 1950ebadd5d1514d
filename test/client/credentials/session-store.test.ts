import assert from 'node:assert/strict';
import {
  chmodSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { Secret } from '../../../protocol/secret.ts';
import { makeProofKey } from '../../../client/oauth/dpop.ts';
import {
  readSignIn,
  removeSignIn,
  signInDirectory,
  writeSignIn,
} from '../../../client/credentials/session-store.ts';
import { signInPath } from '../../../client/credentials/session-path.ts';
import type { SavedSession } from '../../../client/credentials/session-store.ts';
import { temporaryDirectory } from '../support.ts';

const gateway = new URL('https://gw.example/ssh/');

function keepOne(
  state: string,
  at = gateway,
): { readonly signIn: SavedSession; readonly directory: string; readonly path: string } {
  const { key, privateJwk } = makeProofKey();
  const signIn: SavedSession = {
    gateway: at.href,
    issuer: `${at.href}oauth`,
    clientId: 'postern',
    tokenEndpoint: new URL('oauth/token', at),
    revocationEndpoint: new URL('oauth/revocation', at),
    accessToken: new Secret('access'),
    refreshToken: new Secret('refresh'),
    renewAt: 1,
    expiresAt: 2,
    clockOffsetMs: 0,
    key,
  };
  const directory = signInDirectory(state, at);
  writeSignIn(directory, signIn, privateJwk);
  return { signIn, directory, path: signInPath(directory) };
}

describe('a sign-in', () => {
  it('is read as it was written, from two files that only this user can read', (t) => {
    const state = temporaryDirectory(t);
    const before = process.umask(0);
    t.after(() => process.umask(before));
    const { signIn, directory } = keepOne(state);
    const read = readSignIn(state, gateway)!;
    assert.deepEqual(
      { ...read, key: 0, accessToken: 0, refreshToken: 0 },
      { ...signIn, key: 0, accessToken: 0, refreshToken: 0 },
    );
    assert.deepEqual([read.accessToken.reveal(), read.refreshToken?.reveal()], ['access', 'refresh']);
    assert.equal(read.key.thumbprint, signIn.key.thumbprint);
    assert.equal(statSync(directory).mode & 0o777, 0o700);
    const names = readdirSync(directory);
    assert.equal(names.length, 2);
    for (const name of names) assert.equal(statSync(join(directory, name)).mode & 0o777, 0o600, name);
  });

  it('has nothing of its key in the file of the tokens', (t) => {
    const { path, directory } = keepOne(temporaryDirectory(t));
    const keyFile = readdirSync(directory).find((name) => name.startsWith('proof-key'))!;
    const { d } = JSON.parse(readFileSync(join(directory, keyFile), 'utf8')) as { d: string };
    assert.ok(d.length > 40 && !readFileSync(path, 'utf8').includes(d));
  });

  it('is for one gateway and no other', (t) => {
    const state = temporaryDirectory(t);
    const { directory } = keepOne(state);
    for (const other of [
      'https://gw.example/',
      'https://gw.example/SSH/',
      'https://gw.example:444/ssh/',
      'https://a/ssh/',
    ]) {
      assert.equal(readSignIn(state, new URL(other)), undefined);
    }
    const copy = signInDirectory(state, new URL('https://evil.example/ssh/'));
    renameSync(directory, copy);
    assert.throws(() => readSignIn(state, new URL('https://evil.example/ssh/')), { code: 'CONFIG_INVALID' });
  });

  it('is worth nothing without its key', (t) => {
    const state = temporaryDirectory(t);
    const { directory, path, signIn } = keepOne(state);
    for (const name of readdirSync(directory))
      if (name.startsWith('proof-key')) rmSync(join(directory, name));
    assert.throws(() => readSignIn(state, gateway), { code: 'CONFIG_INVALID' });
    const other = makeProofKey();
    const keyPath = join(dirname(path), `proof-key-${signIn.key.thumbprint}.json`);
    writeFileSync(keyPath, other.privateJwk, { mode: 0o600 });
    assert.throws(() => readSignIn(state, gateway), { code: 'CONFIG_INVALID' });
  });

  it('takes the place of the one before, key and all', (t) => {
    const state = temporaryDirectory(t);
    keepOne(state);
    const { signIn, directory } = keepOne(state);
    assert.equal(readSignIn(state, gateway)?.key.thumbprint, signIn.key.thumbprint);
    assert.equal(readdirSync(directory).length, 2);
  });

  it('leaves nothing when it is removed', (t) => {
    const state = temporaryDirectory(t);
    const { directory } = keepOne(state);
    removeSignIn(directory);
    assert.deepEqual(readdirSync(directory), []);
    removeSignIn(directory);
    assert.equal(readSignIn(state, gateway), undefined);
  });

  it('leaves no secret that a process was writing when it was killed', (t) => {
    const state = temporaryDirectory(t);
    const { signIn, directory } = keepOne(state);
    const names = ['sign-in.json.1.0123abcd.tmp', 'proof-key-x.json.1.0123abcd.tmp'];
    for (const end of [() => writeSignIn(directory, signIn), () => removeSignIn(directory)]) {
      for (const name of names) writeFileSync(join(directory, name), 'secret');
      end();
      for (const name of names) assert.ok(!readdirSync(directory).includes(name), name);
    }
  });

  for (const mode of [0o640, 0o604, 0o666]) {
    for (const file of ['sign-in.json', 'the key']) {
      it(`is refused when ${file} has mode ${mode.toString(8)}`, (t) => {
        const state = temporaryDirectory(t);
        const { directory } = keepOne(state);
        const name = readdirSync(directory).find(
          (each) => (each === 'sign-in.json') === (file === 'sign-in.json'),
        )!;
        chmodSync(join(directory, name), mode);
        assert.throws(() => readSignIn(state, gateway), { code: 'CONFIG_INVALID' });
      });
    }
  }

  it('is refused when it is a symbolic link', (t) => {
    const state = temporaryDirectory(t);
    const { path } = keepOne(state);
    renameSync(path, `${path}.real`);
    symlinkSync(`${path}.real`, path);
    assert.throws(() => readSignIn(state, gateway), { code: 'CONFIG_INVALID' });
  });

  for (const [what, change] of [
    ['nothing', () => ''],
    ['half of it', (text: string) => text.slice(0, text.length / 2)],
    ['null', () => 'null'],
    ['a list', () => '[]'],
    ['another version', (text: string) => text.replace('"version": 1', '"version": 2')],
    ['a time that is none', (text: string) => text.replace('"expiresAt": 2', '"expiresAt": "2"')],
    [
      'a key elsewhere',
      (text: string) =>
        text.replace(
          /"keyThumbprint": ".{43}"/,
          `"keyThumbprint": "../../../../../../../../../../../../../../xx"`,
        ),
    ],
    [
      'an endpoint that is no URL',
      (text: string) => text.replace(/"tokenEndpoint": "[^"]*"/, '"tokenEndpoint": "x"'),
    ],
    ['far too much', (text: string) => text.padEnd(70_000)],
  ] as const) {
    it(`is refused when ${what} is left of it`, (t) => {
      const state = temporaryDirectory(t);
      const { path } = keepOne(state);
      writeFileSync(path, change(readFileSync(path, 'utf8')));
      assert.throws(() => readSignIn(state, gateway), { code: 'CONFIG_INVALID' });
    });
  }
});
