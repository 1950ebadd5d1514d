import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { LockFile } from '../../../client/os/lock-file.ts';
import { makeProofKey } from '../../../client/oauth/dpop.ts';
import { signInDirectory, writeSignIn } from '../../../client/credentials/session-store.ts';
import { signInOnce } from '../../../client/login/login-once.ts';
import { Secret } from '../../../protocol/secret.ts';
import { ClientError } from '../../../client/errors/failure.ts';
import { temporaryDirectory } from '../support.ts';

const gateway = new URL('https://gw.example/ssh/');

/** What another process leaves when its sign-in has come to its end. */
function finishSignIn(directory: string): string {
  const { key, privateJwk } = makeProofKey();
  const inAnHour = Date.now() + 3_600_000;
  writeSignIn(
    directory,
    {
      gateway: gateway.href,
      issuer: `${gateway.href}oauth`,
      clientId: 'postern',
      tokenEndpoint: new URL('oauth/token', gateway),
      accessToken: new Secret('access'),
      refreshToken: new Secret('refresh'),
      renewAt: inAnHour,
      expiresAt: inAnHour,
      clockOffsetMs: 0,
      key,
    },
    privateJwk,
  );
  return key.thumbprint;
}

/** Somebody who wants to sign in, at a gateway that cannot be reached; `asked` counts how often it was tried. */
function person(t: TestContext) {
  const state = temporaryDirectory(t);
  const asked = { times: 0 };
  const egress = {
    name: 'direct',
    connect: () => {
      asked.times++;
      return Promise.reject(new ClientError('GATEWAY_UNREACHABLE', 'nobody is there'));
    },
  };
  const signIn = (wanted: 'a new sign-in' | 'a sign-in') =>
    signInOnce({ state, gateway, egress, device: false, hangup: 'leave', wanted });
  return { directory: signInDirectory(state, gateway), asked, signIn };
}

describe('signInOnce()', () => {
  // Between a connect that finds no sign-in and its turn to sign in, another may have come to its end.
  it('begins no second sign-in when one came to its end since the caller looked', async (t) => {
    const { directory, asked, signIn } = person(t);
    const thumbprint = finishSignIn(directory);
    assert.equal((await signIn('a sign-in')).key.thumbprint, thumbprint);
    assert.equal(asked.times, 0);
    assert.ok(!existsSync(join(directory, 'sign-in.lock')));
  });

  it('begins one all the same when a new one is wanted', async (t) => {
    const { directory, asked, signIn } = person(t);
    finishSignIn(directory);
    await assert.rejects(signIn('a new sign-in'), { code: 'GATEWAY_UNREACHABLE' });
    assert.equal(asked.times, 1);
    assert.ok(!existsSync(join(directory, 'sign-in.lock')));
  });

  for (const wanted of ['a sign-in', 'a new sign-in'] as const) {
    it(`waits for who is at it, and has what that one got, when ${wanted} is wanted`, async (t) => {
      const { directory, asked, signIn } = person(t);
      if (wanted === 'a new sign-in') finishSignIn(directory);
      const other = new LockFile(join(directory, 'sign-in.lock'), 3_600_000);
      assert.ok(other.take());
      const waiting = signIn(wanted);
      const thumbprint = finishSignIn(directory);
      other.release();
      assert.equal((await waiting).key.thumbprint, thumbprint);
      assert.equal(asked.times, 0);
      assert.ok(!existsSync(join(directory, 'sign-in.lock')));
    });
  }

  it('gives up with who gives up', async (t) => {
    const { directory, asked, signIn } = person(t);
    const other = new LockFile(join(directory, 'sign-in.lock'), 3_600_000);
    assert.ok(other.take());
    const waiting = signIn('a sign-in');
    other.release();
    await assert.rejects(waiting, { code: 'SIGN_IN_FAILED' });
    assert.equal(asked.times, 0);
  });

  it('goes on where one was killed, and leaves nothing of it', async (t) => {
    const { directory, asked, signIn } = person(t);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    // A number that no process has.
    const dead = JSON.stringify({ host: hostname(), pid: 2 ** 30 });
    writeFileSync(join(directory, 'sign-in.lock'), dead);
    writeFileSync(join(directory, 'sign-in.url'), JSON.stringify({ url: 'http://127.0.0.1:1/' }), {
      mode: 0o600,
    });
    await assert.rejects(signIn('a sign-in'), { code: 'GATEWAY_UNREACHABLE' });
    assert.equal(asked.times, 1);
    assert.deepEqual(readdirSync(directory), []);
  });
});
