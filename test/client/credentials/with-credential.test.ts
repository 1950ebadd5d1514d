import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Secret } from '../../../protocol/secret.ts';
import { signInDirectory, writeSignIn } from '../../../client/credentials/session-store.ts';
import { signInPath } from '../../../client/credentials/session-path.ts';
import { withCredential } from '../../../client/credentials/with-credential.ts';
import { direct } from '../../../client/egress/direct.ts';
import { ClientError } from '../../../client/errors/failure.ts';
import { makeProofKey } from '../../../client/oauth/dpop.ts';
import { temporaryDirectory } from '../support.ts';

const gateway = new URL('https://gw.example/ssh/');
const signal = new AbortController().signal;

function source(state: string) {
  const { key, privateJwk } = makeProofKey();
  const directory = signInDirectory(state, gateway);
  const signIn = {
    gateway: gateway.href,
    issuer: `${gateway.href}oauth`,
    clientId: 'postern',
    tokenEndpoint: new URL('oauth/token', gateway),
    accessToken: new Secret('access'),
    renewAt: 1,
    expiresAt: 2,
    clockOffsetMs: 0,
    key,
  };
  writeSignIn(directory, signIn, privateJwk);
  return { path: signInPath(directory), request: { sources: { state }, gateway, egress: direct, signal } };
}

describe('withCredential(), where a sign-in cannot be renewed and has ended by this clock', () => {
  it('leaves it to the gateway whether it has: a clock can be wrong', async (t) => {
    const { path, request } = source(temporaryDirectory(t));
    assert.equal(await withCredential(request, async ({ token }) => token.reveal()), 'access');
    assert.ok(existsSync(path), 'the sign-in was removed');
  });

  it('ends it when the gateway says so', async (t) => {
    const { path, request } = source(temporaryDirectory(t));
    const refused = withCredential(request, () => {
      throw new ClientError('TOKEN_INVALID', 'it has expired', { challenge: {} });
    });
    await assert.rejects(refused, { code: 'TOKEN_MISSING' });
    assert.ok(!existsSync(path));
  });
});
