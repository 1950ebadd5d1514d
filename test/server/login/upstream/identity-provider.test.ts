import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, beforeEach, describe, it } from 'node:test';
import { SignJWT, decodeJwt, exportJWK, generateKeyPair } from 'jose';
import { Browser, begin, codeFields, hidden, makeKey, requestTokens, startTestGateway } from '../support.ts';
import type { Answer, TestGateway } from '../support.ts';

/** An identity provider that states whatever a test wants. */
class FakeProvider {
  issuer = '';
  /** Claims of the ID token in place of, or besides, the usual ones. */
  claims: Record<string, unknown> = {};
  /** Parameters of the redirect back in place of, or besides, the usual ones. */
  answer: Record<string, string> = {};
  status = 200;
  /** Refresh tokens that it takes, each once; absent: it gives none. */
  refreshTokens: Set<string> | undefined;
  /** How often it was asked with a refresh token. */
  rechecks = 0;
  /** Signs with a key that it does not show. */
  forges = false;
  asked = new URLSearchParams();
  readonly #server: Server = createServer((request, response) => void this.#serve(request, response));
  #keys!: Awaited<ReturnType<typeof generateKeyPair>>;
  #others!: Awaited<ReturnType<typeof generateKeyPair>>;

  async start(): Promise<this> {
    this.#keys = await generateKeyPair('ES256', { extractable: true });
    this.#others = await generateKeyPair('ES256');
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.issuer = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
    return this;
  }

  reset(): void {
    Object.assign(this, { claims: {}, answer: {}, status: 200, forges: false });
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** Where the browser goes back to, having been sent here. */
  back(location: string): string {
    const asked = new URL(location).searchParams;
    this.asked = asked;
    const url = new URL(asked.get('redirect_uri')!);
    const answer = { code: 'good', state: asked.get('state')!, iss: this.issuer, ...this.answer };
    for (const [name, value] of Object.entries(answer)) if (value !== '') url.searchParams.set(name, value);
    return url.href;
  }

  async sign(claims: Record<string, unknown>, typ = 'JWT'): Promise<string> {
    return new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', kid: 'k', typ })
      .sign((this.forges ? this.#others : this.#keys).privateKey);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader('Content-Type', 'application/json').statusCode = this.status;
    if (this.status !== 200) return void response.end('{"error":"invalid_grant"}');
    if (request.url?.startsWith('/.well-known/')) {
      const at = (path: string): string => `${this.issuer}/${path}`;
      const endpoints = {
        authorization_endpoint: at('auth'),
        token_endpoint: at('token'),
        jwks_uri: at('jwks'),
      };
      return void response.end(
        JSON.stringify({
          issuer: this.issuer,
          ...endpoints,
          authorization_response_iss_parameter_supported: true,
          id_token_signing_alg_values_supported: ['ES256'],
        }),
      );
    }
    if (request.url === '/jwks') {
      const jwk = { ...(await exportJWK(this.#keys.publicKey)), kid: 'k', alg: 'ES256', use: 'sig' };
      return void response.end(JSON.stringify({ keys: [jwk] }));
    }
    const fields = new URLSearchParams(await text(request));
    const isRecheck = fields.get('grant_type') === 'refresh_token';
    if (isRecheck) this.rechecks++;
    if (isRecheck && !this.refreshTokens?.delete(fields.get('refresh_token') ?? '')) {
      return void response.writeHead(400).end('{"error":"invalid_grant"}');
    }
    const refresh_token = this.refreshTokens && randomUUID();
    if (refresh_token !== undefined) this.refreshTokens?.add(refresh_token);
    const now = Math.floor(Date.now() / 1000);
    const id_token = await this.sign({
      iss: this.issuer,
      aud: 'gateway',
      sub: 'carol',
      groups: ['theirs', 'canteen'],
      sid: 'session-1',
      ...(!isRecheck && { nonce: this.asked.get('nonce') }),
      iat: now,
      exp: now + 60,
      ...this.claims,
    });
    response.end(JSON.stringify({ access_token: 'x', token_type: 'Bearer', id_token, refresh_token }));
  }
}

describe('signing in at a provider', () => {
  let one: FakeProvider;
  let other: FakeProvider;
  let gateway: TestGateway;
  let url: string;

  before(async () => {
    [one, other] = [await new FakeProvider().start(), await new FakeProvider().start()];
    const providers = [
      {
        name: 'one',
        title: 'One & Only',
        issuer: one.issuer,
        clientId: 'gateway',
        groups: { theirs: 'dev' },
      },
      { name: 'other', issuer: other.issuer, clientId: 'gateway', subjectClaim: 'email' },
    ];
    gateway = await startTestGateway({ signIn: { providers } });
    ({ url } = gateway);
  });
  after(async () => {
    await gateway.close();
    one.stop();
    other.stop();
  });

  /** Goes up to where the provider would show its page. */
  async function leave(browser: Browser, provider = 'one', beginning = begin(url)): Promise<string> {
    const page = await browser.follow(await browser.get(beginning.url), url);
    const answer = await browser.get(`${page.url}/with/${provider}`);
    assert.equal(answer.status, 303, answer.text);
    return answer.location!;
  }

  it('ends at the question whether the program can connect, with the subject and the groups as configured', async () => {
    one.reset();
    const [browser, key, beginning] = [new Browser(), await makeKey(), begin(url)];
    const away = await leave(browser, 'one', beginning);
    const asked = new URL(away).searchParams;
    assert.equal(asked.get('redirect_uri'), `${url}callback/one`);
    assert.equal(asked.get('code_challenge_method'), 'S256');
    const page = await browser.follow(await browser.get(one.back(away)), url);
    assert.match(page.text, /one:carol/);
    const answer = await browser.post(`${page.url}/allow`, { token: hidden(page.text, 'token') });
    const back = await browser.follow(answer, url);
    const tokens = await requestTokens(url, key, codeFields(beginning, back.location));
    const claims = JSON.parse(
      Buffer.from(tokens.access_token.split('.')[1]!, 'base64url').toString(),
    ) as object;
    const { sub, groups, idp } = claims as Record<string, unknown>;
    assert.deepEqual({ sub, groups, idp }, { sub: 'one:carol', groups: ['dev'], idp: 'one' });
  });

  it('offers every provider by its title', async () => {
    const browser = new Browser();
    const page = await browser.follow(await browser.get(begin(url).url), url);
    assert.match(page.text, /Continue with One &#38; Only/);
    assert.match(page.text, /Continue with other/);
  });

  describe('takes no answer', () => {
    const wrong: readonly (readonly [what: string, change: () => void])[] = [
      ['with another state', () => (one.answer = { state: 'x' })],
      ['without a state', () => (one.answer = { state: '' })],
      ['of another issuer', () => (one.answer = { iss: other.issuer })],
      ['without an issuer', () => (one.answer = { iss: '' })],
      ['that is an error', () => (one.answer = { error: 'access_denied', code: '' })],
      ['with an ID token for another nonce', () => (one.claims = { nonce: 'x' })],
      ['with an ID token without a nonce', () => (one.claims = { nonce: undefined })],
      ['with an ID token for another client', () => (one.claims = { aud: 'somebody' })],
      ['with an ID token of another issuer', () => (one.claims = { iss: 'https://evil.example' })],
      ['with an ID token that has expired', () => (one.claims = { iat: 1, exp: 2 })],
      ['with an ID token that another issuer has signed', () => (one.forges = true)],
      ['with a subject that is not text', () => (one.claims = { sub: 7 })],
      ['with a subject that cannot be printed', () => (one.claims = { sub: 'x\u202ey' })],
      ['with a subject that is too long', () => (one.claims = { sub: 'x'.repeat(300) })],
      ['with groups that are no list', () => (one.claims = { groups: { admin: true } })],
    ];
    for (const [what, change] of wrong) {
      it(what, async () => {
        one.reset();
        const browser = new Browser();
        const away = await leave(browser);
        change();
        const answer = await browser.get(one.back(away));
        assert.ok([400, 403].includes(answer.status), String(answer.status));
        assert.equal(answer.location, undefined);
        assert.match(answer.headers.get('content-security-policy')!, /default-src 'none'/);
      });
    }

    it('a second time', async () => {
      one.reset();
      const browser = new Browser();
      const back = one.back(await leave(browser));
      assert.equal((await browser.get(back)).status, 303);
      assert.equal((await browser.get(back)).status, 400);
    });

    it('for which another browser was sent', async () => {
      one.reset();
      const [theirs, ours] = [new Browser(), new Browser()];
      const back = one.back(await leave(theirs));
      await leave(ours);
      assert.equal((await ours.get(back)).status, 400);
    });

    it('of one provider where the other was asked, nor the other way round', async () => {
      one.reset();
      other.reset();
      for (const iss of [one.issuer, other.issuer]) {
        const browser = new Browser();
        const away = await leave(browser, 'one');
        one.answer = { iss };
        const mixed = new URL(one.back(away));
        mixed.pathname = mixed.pathname.replace('/one', '/other');
        assert.equal((await browser.get(mixed)).status, 400);
      }
    });

    it('into a sign-in of another browser', async () => {
      one.reset();
      const [theirs, ours] = [new Browser(), new Browser()];
      const answer = await theirs.get(one.back(await leave(theirs)));
      assert.equal(answer.status, 303);
      assert.equal((await ours.get(answer.location!)).status, 400);
    });
  });

  describe('by e-mail address', () => {
    const addresses: readonly (readonly [claims: Record<string, unknown>, status: number])[] = [
      [{ email: 'carol@example.com', email_verified: true }, 303],
      [{ email: 'carol@example.com', email_verified: false }, 403],
      [{ email: 'carol@example.com' }, 403],
      [{ email: 'carol@example.com', email_verified: 'true' }, 403],
      [{ email: 'carol@evil.example@example.com', email_verified: true }, 403],
      [{ email: 'carol', email_verified: true }, 403],
      [{ email_verified: true }, 403],
    ];
    for (const [claims, status] of addresses) {
      it(`${JSON.stringify(claims)} gives ${status}`, async () => {
        other.reset();
        const browser = new Browser();
        const away = await leave(browser, 'other');
        other.claims = claims;
        assert.equal((await browser.get(other.back(away))).status, status);
      });
    }
  });

  it('reports that the provider is down when it is', async () => {
    const broken = await new FakeProvider().start();
    const providers = [{ name: 'broken', issuer: broken.issuer, clientId: 'gateway' }];
    const its = await startTestGateway({ signIn: { accounts: false, providers } });
    try {
      broken.status = 500;
      const browser = new Browser();
      const answer = await browser.follow(await browser.get(begin(its.url).url), its.url);
      assert.equal(answer.status, 502);
      broken.status = 200;
      const again = await browser.follow(await browser.get(begin(its.url).url), its.url);
      assert.ok(
        again.location!.startsWith(broken.issuer),
        'with one provider and no accounts there is nothing to choose',
      );
    } finally {
      await its.close();
      broken.stop();
    }
  });

  async function post(claims: object, typ = 'logout+jwt'): Promise<number> {
    const body = new URLSearchParams({ logout_token: await one.sign({ ...claims }, typ) });
    return (await fetch(`${url}back-channel-logout/one`, { method: 'POST', body })).status;
  }

  async function signedIn(claims: Record<string, unknown> = {}): Promise<Browser> {
    one.reset();
    const browser = new Browser();
    const page = await browser.follow(await browser.get(`${url}access`), url);
    const away = (await browser.get(`${page.url}/with/one`)).location!;
    one.claims = claims;
    const access = await browser.follow(await browser.get(one.back(away)), url);
    assert.match(access.text, /Your access/);
    return browser;
  }

  const isSignedIn = async (browser: Browser) => (await browser.get(`${url}access`)).status === 200;

  describe('a provider’s word that a session is over', () => {
    const event = { 'http://schemas.openid.net/event/backchannel-logout': {} };
    let id = 0;
    const logoutClaims = (more: object) => ({
      iss: one.issuer,
      aud: 'gateway',
      iat: Math.floor(Date.now() / 1000),
      jti: String(id++),
      events: event,
      ...more,
    });

    for (const [what, about] of [
      ['by session', { sid: 'session-1' }],
      ['by subject', { sub: 'carol' }],
      ['by both', { sid: 'session-1', sub: 'carol' }],
    ] as const) {
      it(`${what} ends its sign-ins, and no others`, async () => {
        const [hers, his] = [await signedIn(), await signedIn({ sub: 'dave', sid: 'session-2' })];
        assert.equal(await post(logoutClaims(about)), 200);
        assert.deepEqual([await isSignedIn(hers), await isSignedIn(his)], [false, true]);
      });
    }

    it('repeated, ends nothing more', async () => {
      const claims = logoutClaims({ sub: 'carol' });
      await signedIn();
      assert.equal(await post(claims), 200);
      const back = await signedIn();
      assert.equal(await post(claims), 200);
      assert.equal(await isSignedIn(back), true);
    });

    const wrong: readonly (readonly [what: string, claims: object, typ?: string])[] = [
      ['of another issuer', { iss: 'https://evil.example' }],
      ['for another client', { aud: 'somebody' }],
      ['that is old', { iat: Math.floor(Date.now() / 1000) - 600 }],
      ['from the future', { iat: Math.floor(Date.now() / 1000) + 600 }],
      ['without an id', { jti: undefined }],
      ['without the event', { events: {} }],
      ['that is an ID token', { nonce: 'n' }],
      ['without a subject', { sub: undefined }],
      ['of another kind', {}, 'at+jwt'],
    ];
    for (const [what, claims, typ] of wrong) {
      it(`${what} is not accepted`, async () => {
        const hers = await signedIn();
        assert.equal(await post(logoutClaims({ sub: 'carol', ...claims }), typ), 400);
        assert.equal(await isSignedIn(hers), true);
      });
    }

    it('that another issuer has signed is not accepted', async () => {
      const hers = await signedIn();
      one.forges = true;
      assert.equal(await post(logoutClaims({ sub: 'carol' })), 400);
      assert.equal(await isSignedIn(hers), true);
    });

    for (const body of ['', 'logout_token=', 'logout_token=x', 'logout_token=a.b.c&logout_token=d']) {
      it(`${JSON.stringify(body)} is not accepted`, async () => {
        const headers = { 'content-type': 'application/x-www-form-urlencoded' };
        const answer = await fetch(`${url}back-channel-logout/one`, { method: 'POST', body, headers });
        assert.equal(answer.status, 400);
      });
    }
  });
});

describe('a provider that is asked again', () => {
  let provider: FakeProvider;
  let gateway: TestGateway;
  before(async () => {
    provider = await new FakeProvider().start();
    const of = { issuer: provider.issuer, clientId: 'gateway' };
    const providers = [
      { ...of, name: 'one', recheck: true },
      { ...of, name: 'once' },
    ];
    gateway = await startTestGateway({ signIn: { providers } });
  });
  beforeEach(() => {
    provider.reset();
    provider.refreshTokens = new Set();
    provider.rechecks = 0;
  });
  after(async () => {
    await gateway.close();
    provider.stop();
  });

  async function comeBack(browser: Browser, by: string, beginning = begin(gateway.url)): Promise<Answer> {
    const page = await browser.follow(await browser.get(beginning.url), gateway.url);
    const away = (await browser.get(`${page.url}/with/${by}`)).location!;
    return browser.follow(await browser.get(provider.back(away)), gateway.url);
  }

  interface Program {
    readonly browser: Browser;
    readonly groups: () => unknown;
    /** Asks for new tokens; gives the error, or nothing. */
    readonly renew: () => Promise<string | undefined>;
  }

  /** A program whose person has signed in at the provider. */
  async function program(by = 'one'): Promise<Program> {
    const [browser, key, beginning] = [new Browser(), await makeKey(), begin(gateway.url)];
    const page = await comeBack(browser, by, beginning);
    const answer = await browser.post(`${page.url}/allow`, { token: hidden(page.text, 'token') });
    const back = await browser.follow(answer, gateway.url);
    let tokens = await requestTokens(gateway.url, key, codeFields(beginning, back.location));
    assert.equal(tokens.status, 200, JSON.stringify(tokens));
    return {
      browser,
      groups: () => decodeJwt(tokens.access_token)['groups'],
      async renew() {
        const fields = { grant_type: 'refresh_token', refresh_token: tokens.refresh_token };
        const next = await requestTokens(gateway.url, key, fields);
        if (next.error === undefined) tokens = next;
        return next.error;
      },
    };
  }

  it('takes a group away with the next token (K2)', async () => {
    const { groups, renew } = await program();
    assert.deepEqual(groups(), ['theirs', 'canteen']);
    for (const now of [['canteen'], [], ['canteen', 'theirs']]) {
      provider.claims = { groups: now };
      assert.equal(await renew(), undefined);
      assert.deepEqual(groups(), now);
    }
  });

  it('takes it away from a new sign-in of a browser that is signed in, too', async () => {
    const { browser } = await program();
    provider.claims = { groups: ['canteen'] };
    const [key, beginning] = [await makeKey(), begin(gateway.url)];
    const page = await browser.follow(await browser.get(beginning.url), gateway.url);
    const answer = await browser.post(`${page.url}/allow`, { token: hidden(page.text, 'token') });
    const back = await browser.follow(answer, gateway.url);
    const tokens = await requestTokens(gateway.url, key, codeFields(beginning, back.location));
    assert.deepEqual(decodeJwt(tokens.access_token)['groups'], ['canteen']);
  });

  it('ends every sign-in of a person whom it no longer lets in', async () => {
    const [one, other] = [await program(), await program()];
    provider.refreshTokens?.clear();
    assert.equal(await one.renew(), 'invalid_grant');
    assert.equal(await other.renew(), 'invalid_grant');
    for (const { browser } of [one, other])
      assert.equal((await browser.get(`${gateway.url}access`)).status, 303);
  });

  it('ends them when it answers for another person, or signs with another key', async () => {
    for (const change of [{ claims: { sub: 'dave' } }, { forges: true }]) {
      const { renew } = await program();
      Object.assign(provider, change);
      assert.equal(await renew(), 'invalid_grant');
      provider.reset();
      assert.equal(await renew(), 'invalid_grant');
    }
  });

  it('changes nothing while it is down, and is asked again when it is up', async () => {
    const { groups, renew } = await program();
    provider.status = 503;
    provider.claims = { groups: [] };
    for (let times = 0; times < 3; times++) assert.equal(await renew(), undefined);
    assert.deepEqual(groups(), ['theirs', 'canteen']);
    provider.status = 200;
    assert.equal(await renew(), undefined);
    assert.deepEqual(groups(), []);
  });

  it('is asked by one of many programs that renew at the same moment: its refresh tokens are good once', async () => {
    const programs = [await program(), await program(), await program(), await program()];
    for (let times = 0; times < 3; times++)
      assert.deepEqual(
        await Promise.all(programs.map(({ renew }) => renew())),
        programs.map(() => undefined),
      );
  });

  it('refuses a sign-in without a refresh token to ask with', async () => {
    provider.refreshTokens = undefined;
    assert.equal((await comeBack(new Browser(), 'one')).status, 403);
  });

  it('without recheck is not asked, and can be down: its last statement holds', async () => {
    const { groups, renew } = await program('once');
    provider.status = 503;
    provider.claims = { groups: [] };
    assert.equal(await renew(), undefined);
    assert.deepEqual(groups(), ['theirs', 'canteen']);
    assert.equal(provider.rechecks, 0);
  });
});
