import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { changeAccount } from '../../../../server/login/accounts/accounts.ts';
import { openSqliteStore } from '../../../../server/store/open-store.ts';
import {
  Browser,
  askAccess,
  begin,
  codeFields,
  makeKey,
  requestTokens,
  signIn,
  startTestGateway,
} from '../support.ts';
import type { TestGateway } from '../support.ts';

describe('signing in with an account', () => {
  let gateway: TestGateway;
  before(async () => (gateway = await startTestGateway()));
  after(() => gateway.close());

  it('gives a bound token that the gateway believes', async () => {
    const { url } = gateway;
    const key = await makeKey();
    const beginning = begin(url, { dpop_jkt: key.thumbprint });
    const back = await signIn(new Browser(), url, beginning);
    const answer = new URL(back.location!);
    assert.equal(answer.origin + answer.pathname, beginning.redirectUri);
    assert.equal(answer.searchParams.get('state'), beginning.state);
    assert.equal(answer.searchParams.get('iss'), `${url}oauth`);
    const tokens = await requestTokens(url, key, codeFields(beginning, back.location));
    assert.equal(tokens.status, 200, JSON.stringify(tokens));
    assert.equal(tokens.token_type, 'DPoP');
    assert.equal(tokens.expires_in, 600);
    const claims = decodeJwt(tokens.access_token);
    assert.deepEqual(
      {
        iss: claims.iss,
        aud: claims.aud,
        sub: claims.sub,
        client: claims['client_id'],
        groups: claims['groups'],
      },
      { iss: `${url}oauth`, aud: 'postern', sub: 'alice', client: 'postern', groups: ['dev'] },
    );
    assert.deepEqual(claims['cnf'], { jkt: key.thumbprint });
    assert.equal(typeof claims['sid'], 'string');
    assert.equal(decodeProtectedHeader(tokens.access_token).typ, 'at+jwt');
    const access = await askAccess(url, key, tokens.access_token);
    assert.equal(access.status, 200, await access.clone().text());
    assert.equal(((await access.json()) as { subject: string }).subject, 'alice');
  });

  describe('refuses', () => {
    const wrong: readonly (readonly [
      what: string,
      change: (fields: Record<string, string>) => void,
      bound?: boolean,
    ])[] = [
      ['a code without its verifier', (fields) => delete fields['code_verifier']],
      ['another verifier', (fields) => (fields['code_verifier'] = 'x'.repeat(43))],
      ['another redirect URI', (fields) => (fields['redirect_uri'] = 'http://127.0.0.1:43210/other')],
      ['a code that was never issued', (fields) => (fields['code'] = 'x'.repeat(43))],
      ['another client', (fields) => (fields['client_id'] = 'postern-web')],
      ['no proof of a key', () => {}, false],
    ];
    for (const [what, change, bound = true] of wrong) {
      it(what, async () => {
        const beginning = begin(gateway.url);
        const back = await signIn(new Browser(), gateway.url, beginning);
        const fields = codeFields(beginning, back.location);
        change(fields);
        const tokens = await requestTokens(gateway.url, bound ? await makeKey() : undefined, fields);
        assert.equal(Math.floor(tokens.status / 100), 4, JSON.stringify(tokens));
        assert.equal(tokens.access_token, undefined);
      });
    }

    it('another key than the one the sign-in was begun with', async () => {
      const beginning = begin(gateway.url, { dpop_jkt: (await makeKey()).thumbprint });
      const back = await signIn(new Browser(), gateway.url, beginning);
      const tokens = await requestTokens(gateway.url, await makeKey(), codeFields(beginning, back.location));
      assert.equal(tokens.error, 'invalid_grant');
    });

    it('a code that was used, and ends what was given for it', async () => {
      const [key, beginning] = [await makeKey(), begin(gateway.url)];
      const back = await signIn(new Browser(), gateway.url, beginning);
      const fields = codeFields(beginning, back.location);
      const first = await requestTokens(gateway.url, key, fields);
      assert.equal((await askAccess(gateway.url, key, first.access_token)).status, 200);
      assert.equal((await requestTokens(gateway.url, key, fields)).error, 'invalid_grant');
      assert.equal((await askAccess(gateway.url, key, first.access_token)).status, 401);
      const again = { grant_type: 'refresh_token', refresh_token: first.refresh_token };
      assert.equal((await requestTokens(gateway.url, key, again)).error, 'invalid_grant');
    });

    it('all but one of many requests with one code at the same moment', async () => {
      const [key, beginning] = [await makeKey(), begin(gateway.url)];
      const back = await signIn(new Browser(), gateway.url, beginning);
      const fields = codeFields(beginning, back.location);
      const answers = await Promise.all(
        Array.from({ length: 10 }, () => requestTokens(gateway.url, key, fields)),
      );
      assert.ok(answers.filter(({ status }) => status === 200).length <= 1);
    });

    it('a proof that was used', async () => {
      const [key, beginning] = [await makeKey(), begin(gateway.url)];
      const back = await signIn(new Browser(), gateway.url, beginning);
      const url = new URL('oauth/token', gateway.url).href;
      const DPoP = await key.prove('POST', url);
      const ask = (fields: Record<string, string>) =>
        fetch(url, {
          method: 'POST',
          headers: { DPoP },
          body: new URLSearchParams({ client_id: 'postern', ...fields }),
        });
      const first = await ask(codeFields(beginning, back.location));
      assert.equal(first.status, 200);
      const { refresh_token } = (await first.json()) as { refresh_token: string };
      assert.equal((await ask({ grant_type: 'refresh_token', refresh_token })).status, 400);
    });
  });

  async function begun() {
    const [key, beginning] = [await makeKey(), begin(gateway.url)];
    const back = await signIn(new Browser(), gateway.url, beginning);
    const tokens = await requestTokens(gateway.url, key, codeFields(beginning, back.location));
    const refresh = (refresh_token: string, by = key) =>
      requestTokens(gateway.url, by, { grant_type: 'refresh_token', refresh_token });
    return { key, tokens, refresh };
  }

  describe('a refresh token', () => {
    it('gives new tokens of the same sign-in, and another refresh token', async () => {
      const { tokens, refresh } = await begun();
      const next = await refresh(tokens.refresh_token);
      assert.equal(next.status, 200);
      assert.notEqual(next.refresh_token, tokens.refresh_token);
      assert.equal(decodeJwt(next.access_token)['sid'], decodeJwt(tokens.access_token)['sid']);
    });

    it('used twice, ends the whole sign-in', async () => {
      const { key, tokens, refresh } = await begun();
      const next = await refresh(tokens.refresh_token);
      assert.equal((await refresh(tokens.refresh_token)).error, 'invalid_grant');
      assert.equal((await refresh(next.refresh_token)).error, 'invalid_grant');
      assert.equal((await askAccess(gateway.url, key, next.access_token)).status, 401);
    });

    it('is worth nothing with another key', async () => {
      const { tokens, refresh } = await begun();
      assert.equal((await refresh(tokens.refresh_token, await makeKey())).error, 'invalid_grant');
    });

    it('revoked, ends the sign-in', async () => {
      const { key, tokens, refresh } = await begun();
      const answer = await fetch(new URL('oauth/token/revocation', gateway.url), {
        method: 'POST',
        body: new URLSearchParams({ client_id: 'postern', token: tokens.refresh_token }),
      });
      assert.equal(answer.status, 200);
      assert.equal((await refresh(tokens.refresh_token)).error, 'invalid_grant');
      assert.equal((await askAccess(gateway.url, key, tokens.access_token)).status, 401);
    });

    it('brings the groups that the account has then', async () => {
      const { tokens, refresh } = await begun();
      const store = await openSqliteStore(gateway.storeFile);
      await changeAccount(store, 'alice', { groups: ['ops'] });
      const next = await refresh(tokens.refresh_token);
      assert.deepEqual(decodeJwt(next.access_token)['groups'], ['ops']);
      await changeAccount(store, 'alice', { groups: ['dev'] });
      await store.close();
    });

    it('does not outlive the account', async () => {
      const { key, tokens, refresh } = await begun();
      const store = await openSqliteStore(gateway.storeFile);
      await changeAccount(store, 'alice', { disabled: true });
      assert.equal((await refresh(tokens.refresh_token)).error, 'invalid_grant');
      await changeAccount(store, 'alice', { disabled: false });
      await store.close();
      assert.equal((await askAccess(gateway.url, key, tokens.access_token)).status, 200);
    });
  });

  describe('the redirect back', () => {
    const elsewhere = [
      'https://evil.example/',
      'http://evil.example:1234/x',
      'http://localhost:1234/x',
      'http://127.0.0.1/x',
      'http://127.0.0.1:0/x',
      'http://127.0.0.1:99999/x',
      'http://127.0.0.1:022/x',
      'http://127.0.0.1:1234/x?next=https://evil.example',
      'http://127.0.0.1:1234/x#y',
      'http://127.0.0.1:1234/../x',
      'http://127.0.0.1:1234/%2e%2e',
      'http://127.0.0.1:1234//evil.example',
      'http://127.0.0.1:1234@evil.example/x',
      'http://user@127.0.0.1:1234/x',
      'http://127.0.0.1.evil.example:1234/x',
      'http://127.0.0.2:1234/x',
      'http://127.1:1234/x',
      'http://2130706433:1234/x',
      'http://0x7f.0.0.1:1234/x',
      'http://[::]:1234/x',
      'http://[::ffff:127.0.0.1]:1234/x',
      'https://127.0.0.1:1234/x',
      'HTTP://127.0.0.1:1234/x',
      'http:/127.0.0.1:1234/x',
      'http:\\\\127.0.0.1:1234/x',
      '//127.0.0.1:1234/x',
      'http://127.0.0.1:1234\\@evil.example/x',
      ' http://127.0.0.1:1234/x',
      'http://127.0.0.1:1234/x\n',
      'http://127.0.0.1:1234/x\u0000',
      'http://127.0.0.1\u3002evil.example:1234/x',
      'javascript:alert(1)',
      'data:text/html,x',
      'postern://x',
      '',
    ];
    for (const uri of elsewhere) {
      it(`never leads to ${JSON.stringify(uri)}`, async () => {
        const answer = await new Browser().get(begin(gateway.url, { redirect_uri: uri }).url);
        assert.equal(answer.status, 400);
        assert.equal(answer.location, undefined);
      });
    }

    for (const uri of ['http://127.0.0.1:1234/x', 'http://[::1]:65535/abc_-', 'http://127.0.0.1:1/']) {
      it(`can lead to ${uri}`, async () => {
        const answer = await new Browser().get(begin(gateway.url, { redirect_uri: uri }).url);
        assert.equal(answer.status, 303);
        assert.ok(answer.location!.startsWith(`${gateway.url}sign-in/`));
      });
    }
  });

  describe('a request to sign in', () => {
    const refused: readonly (readonly [what: string, parameters: Record<string, string | undefined>])[] = [
      ['without PKCE', { code_challenge: undefined, code_challenge_method: undefined }],
      ['with plain PKCE', { code_challenge_method: 'plain' }],
      ['for a token at once', { response_type: 'token' }],
      ['for an ID token at once', { response_type: 'id_token', nonce: 'n' }],
      ['for another resource', { resource: 'https://other.example/' }],
      ['by a request object', { request: 'e30.e30.' }],
    ];
    for (const [what, parameters] of refused) {
      it(`${what} is refused`, async () => {
        const answer = await new Browser().get(begin(gateway.url, parameters).url);
        const error =
          answer.location === undefined
            ? ''
            : new URL(answer.location).search + new URL(answer.location).hash;
        assert.ok(answer.status === 400 || /error=/.test(error), `${answer.status} ${answer.location}`);
      });
    }

    it('of an unknown client gets a page, not a redirect', async () => {
      const answer = await new Browser().get(begin(gateway.url, { client_id: 'evil' }).url);
      assert.deepEqual([answer.status, answer.location], [400, undefined]);
      assert.match(answer.headers.get('content-security-policy')!, /frame-ancestors 'none'/);
    });

    it('works without a scope', async () => {
      const [key, beginning] = [await makeKey(), begin(gateway.url, { scope: undefined })];
      const back = await signIn(new Browser(), gateway.url, beginning);
      assert.equal((await requestTokens(gateway.url, key, codeFields(beginning, back.location))).status, 200);
    });
  });

  it('knows itself by its own URL, whatever host a request names', async () => {
    const metadata = await fetch(new URL('oauth/.well-known/openid-configuration', gateway.url), {
      headers: {
        'X-Forwarded-Host': 'evil.example',
        'X-Forwarded-Proto': 'https',
        Forwarded: 'host=evil.example',
      },
    });
    const text = await metadata.text();
    assert.equal((JSON.parse(text) as { issuer: string }).issuer, `${gateway.url}oauth`);
    assert.doesNotMatch(text, /evil|https:/);
  });
});
