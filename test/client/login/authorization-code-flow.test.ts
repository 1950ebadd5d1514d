import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { decodeJwt } from 'jose';
import { direct } from '../../../client/egress/direct.ts';
import { findAuthorizationServer } from '../../../client/oauth/authorization-server.ts';
import type { AuthorizationServerMetadata } from '../../../client/oauth/authorization-server.ts';
import { readCode, signInByBrowser } from '../../../client/login/authorization-code-flow.ts';
import { makeProofKey } from '../../../client/oauth/dpop.ts';
import { requestTokens } from '../../../client/oauth/token-request.ts';
import { Browser } from './browser.ts';
import { startGatewayProcess } from './gateway.ts';
import type { GatewayProcess } from './gateway.ts';

describe('readCode()', () => {
  const expected = { state: 's', issuer: 'https://gw.example/ssh/oauth' };
  const iss = encodeURIComponent(expected.issuer);

  it('gives the code of the answer to what was asked', () => {
    assert.equal(readCode(new URLSearchParams(`code=c&state=s&iss=${iss}`), expected), 'c');
  });

  for (const query of [
    '',
    `code=c&iss=${iss}`,
    `code=c&state=&iss=${iss}`,
    `code=c&state=S&iss=${iss}`,
    `code=c&state=s&state=s&iss=${iss}`,
    `code=c&code=d&state=s&iss=${iss}`,
    'code=c&state=s',
    'code=c&state=s&iss=https://evil.example',
    `code=c&state=s&iss=${iss}/`,
    `code=c&state=s&iss=${iss}&iss=https://evil.example`,
    `state=s&iss=${iss}`,
    `code=&state=s&iss=${iss}`,
    `error=access_denied&state=s&iss=${iss}`,
    `error=server_error&code=c&state=s&iss=${iss}`,
  ]) {
    it(`refuses ${JSON.stringify(query)}`, () => {
      assert.throws(() => readCode(new URLSearchParams(query), expected), { code: 'SIGN_IN_FAILED' });
    });
  }
});

describe('signInByBrowser()', () => {
  let gateway: GatewayProcess;
  let server: AuthorizationServerMetadata;
  const endings: (() => unknown)[] = [];
  after(async () => {
    for (const ending of endings) await ending();
  });
  before(async () => {
    gateway = await startGatewayProcess({ after: (ending) => endings.push(ending) });
    server = await findAuthorizationServer(gateway.url, direct, AbortSignal.timeout(10_000));
  });

  /** Signs in with a browser that goes where `go` sends it. */
  function signIn(go: (url: URL) => Promise<unknown>, signal = AbortSignal.timeout(20_000)) {
    const { key } = makeProofKey();
    const invite = (url: URL): void => void go(url).catch(() => {});
    return signInByBrowser(server, { egress: direct, key, signal, invite }).then((tokens) => ({
      tokens,
      key,
    }));
  }

  /** Goes through the gateway's pages and gives the address that it sends the browser back to. */
  // oxlint-disable-next-line consistent-function-scoping
  async function answerTo(url: URL): Promise<URL> {
    const page = await new Browser().visit(url.href, { stopAt: url.searchParams.get('redirect_uri')! });
    return page.url;
  }

  it('gives tokens that are bound to the key', async () => {
    const { tokens, key } = await signIn((url) => new Browser().visit(url.href));
    const { cnf, sub, sid } = decodeJwt(tokens.accessToken.reveal());
    assert.deepEqual(cnf, { jkt: key.thumbprint });
    assert.equal(sub, 'alice');
    assert.ok(sid && tokens.refreshToken && tokens.expiresAt > Date.now());
  });

  it('tells the browser how it ended', async () => {
    const shown = Promise.withResolvers<string>();
    await signIn(async (url) => shown.resolve((await new Browser().visit(url.href)).text));
    assert.match(await shown.promise, /You are signed in/);
  });

  for (const [what, change] of [
    ['another state', (url: URL) => url.searchParams.set('state', 'x'.repeat(43))],
    ['no state', (url: URL) => url.searchParams.delete('state')],
    ['another issuer', (url: URL) => url.searchParams.set('iss', 'https://evil.example')],
    ['no issuer', (url: URL) => url.searchParams.delete('iss')],
    ['another code', (url: URL) => url.searchParams.set('code', 'x'.repeat(43))],
    ['a refusal', (url: URL) => url.searchParams.set('error', 'access_denied')],
  ] as const) {
    it(`refuses an answer with ${what}, and the page says so`, async () => {
      const shown = Promise.withResolvers<string>();
      await assert.rejects(
        signIn(async (url) => {
          const answer = await answerTo(url);
          change(answer);
          shown.resolve(await (await fetch(answer)).text());
        }),
        { code: 'SIGN_IN_FAILED' },
      );
      assert.match(await shown.promise, /You are not signed in/);
    });
  }

  it('refuses the code of a sign-in that somebody else began', async () => {
    // An attacker gets a code for a challenge of theirs and puts it into our answer.
    await assert.rejects(
      signIn(async (url) => {
        const foreign = new URL(url);
        foreign.searchParams.set('code_challenge', 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM');
        foreign.searchParams.delete('dpop_jkt');
        await fetch(await answerTo(foreign));
      }),
      { code: 'SIGN_IN_FAILED' },
    );
  });

  it('begins nothing that somebody else can finish: the code needs the verifier and the key', async () => {
    const stolen = Promise.withResolvers<{ code: string; redirectUri: string }>();
    const enough = new AbortController();
    const signing = signIn(async (url) => {
      const answer = await answerTo(url);
      stolen.resolve({
        code: answer.searchParams.get('code')!,
        redirectUri: url.searchParams.get('redirect_uri')!,
      });
    }, enough.signal);
    const { code, redirectUri } = await stolen.promise;
    const answer = await requestTokens(
      { endpoint: server.tokenEndpoint, clientId: 'postern', key: makeProofKey().key, clockOffsetMs: 0 },
      { grant_type: 'authorization_code', code, redirect_uri: redirectUri, code_verifier: 'x'.repeat(43) },
      { egress: direct, signal: AbortSignal.timeout(10_000) },
    );
    assert.equal(answer.kind === 'refused' && answer.error, 'invalid_grant');
    enough.abort(new Error('enough'));
    await assert.rejects(signing, /enough/);
  });

  it('has gone from its port when it is over', async () => {
    let back = '';
    await signIn(async (url) => {
      back = url.searchParams.get('redirect_uri')!;
      await new Browser().visit(url.href);
    });
    await assert.rejects(fetch(back));
  });
});
