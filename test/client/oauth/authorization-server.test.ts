import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import { findAuthorizationServer } from '../../../client/oauth/authorization-server.ts';
import { listen } from '../support.ts';

const metadata = '/ssh/oauth/.well-known/openid-configuration';

/** A gateway whose documents are what `change` makes of good ones. */
async function find(t: TestContext, change: (documents: Record<string, Record<string, unknown>>) => void) {
  const server = createServer((request, response) => {
    const document = documents[request.url!];
    response.setHeader('Content-Type', 'application/json');
    if (document === undefined) response.statusCode = 404;
    response.end(JSON.stringify(document ?? {}));
  });
  const documents: Record<string, Record<string, unknown>> = {};
  const gateway = new URL(`http://127.0.0.1:${await listen(t, server)}/ssh/`);
  const issuer = `${gateway.href}oauth`;
  Object.assign(documents, {
    '/ssh/.well-known/postern': { publicUrl: gateway.href, signIn: { issuer, clientId: 'postern' } },
    [metadata]: {
      issuer,
      authorization_endpoint: `${issuer}/auth`,
      token_endpoint: `${issuer}/token`,
      revocation_endpoint: `${issuer}/revocation`,
      scopes_supported: ['openid', 'email'],
    },
  });
  change(documents);
  return findAuthorizationServer(gateway, direct, t.signal);
}

describe('findAuthorizationServer()', () => {
  it('finds where and how to sign in', async (t) => {
    const { clientId, scope, deviceAuthorizationEndpoint, tokenEndpoint } = await find(t, () => {});
    assert.deepEqual([clientId, scope, deviceAuthorizationEndpoint], ['postern', 'openid', undefined]);
    assert.equal(tokenEndpoint.pathname, '/ssh/oauth/token');
  });

  it('names the gateway at the usual path where there is none at the given one', async (t) => {
    const server = createServer((request, response) => {
      response.statusCode = request.url === '/ssh/.well-known/postern' ? 200 : 404;
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({ publicUrl: usual }));
    });
    const origin = `http://127.0.0.1:${await listen(t, server)}/`;
    const usual = `${origin}ssh/`;
    for (const given of [origin, `${origin}postern/`])
      await assert.rejects(findAuthorizationServer(new URL(given), direct, t.signal), {
        code: 'HTTP_UNEXPECTED',
        message: `there is no postern gateway at ${given}; there is one at ${usual}`,
        hint: `postern login ${usual}`,
      });
  });

  for (const [what, code, change] of [
    ['is no gateway', 'HTTP_UNEXPECTED', (all) => delete all['/ssh/.well-known/postern']],
    ['says nothing of itself', 'HTTP_UNEXPECTED', (all) => (all['/ssh/.well-known/postern'] = {})],
    [
      'goes by another URL',
      'CONFIG_INVALID',
      (all) => (all['/ssh/.well-known/postern']!['publicUrl'] = 'https://gw.example/'),
    ],
    ['has no sign-in', 'SIGN_IN_FAILED', (all) => delete all['/ssh/.well-known/postern']!['signIn']],
    [
      'sends people to another host',
      'SIGN_IN_FAILED',
      (all) =>
        (all['/ssh/.well-known/postern']!['signIn'] = {
          issuer: 'https://evil.example/ssh/oauth',
          clientId: 'x',
        }),
    ],
    [
      'sends people out of its folder',
      'SIGN_IN_FAILED',
      (all) =>
        (all['/ssh/.well-known/postern']!['signIn'] = {
          issuer: `${String(all[metadata]!['issuer'])}/../../evil`,
          clientId: 'x',
        }),
    ],
    ['has no metadata', 'HTTP_UNEXPECTED', (all) => delete all[metadata]],
    [
      'has the metadata of another',
      'SIGN_IN_FAILED',
      (all) => (all[metadata]!['issuer'] = 'https://evil.example'),
    ],
    [
      'has its page elsewhere',
      'SIGN_IN_FAILED',
      (all) => (all[metadata]!['authorization_endpoint'] = 'https://evil.example/auth'),
    ],
    [
      'wants tokens elsewhere',
      'SIGN_IN_FAILED',
      (all) => (all[metadata]!['token_endpoint'] = 'https://evil.example/token'),
    ],
    [
      'revokes elsewhere',
      'SIGN_IN_FAILED',
      (all) => (all[metadata]!['revocation_endpoint'] = 'https://evil.example/x'),
    ],
    ['has no token endpoint', 'SIGN_IN_FAILED', (all) => delete all[metadata]!['token_endpoint']],
    [
      'has a page that is a program',
      'SIGN_IN_FAILED',
      (all) => (all[metadata]!['authorization_endpoint'] = 'file:///bin/sh'),
    ],
  ] as readonly (readonly [string, string, (all: Record<string, Record<string, unknown>>) => unknown])[]) {
    it(`refuses a gateway that ${what}`, async (t) => {
      await assert.rejects(find(t, change), { code });
    });
  }
});
