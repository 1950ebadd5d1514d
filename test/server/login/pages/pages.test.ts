import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import {
  Browser,
  begin,
  codeFields,
  hidden,
  makeKey,
  password,
  requestTokens,
  signIn,
  startTestGateway,
} from '../support.ts';
import type { Answer, TestGateway } from '../support.ts';

describe('the pages of signing in', () => {
  let gateway: TestGateway;
  let url: string;
  before(async () => {
    gateway = await startTestGateway({ signIn: { deviceFlow: true } });
    ({ url } = gateway);
  });
  after(() => gateway.close());

  /** Signed in once, for tests that leave it as it is: each password check takes its time. */
  let shared: Promise<{ browser: Browser; page: Answer }> | undefined;
  const openShared = () => (shared ??= openAccess());

  async function openSignIn(browser = new Browser()): Promise<{ browser: Browser; page: Answer }> {
    return { browser, page: await browser.follow(await browser.get(begin(url).url), url) };
  }

  /** A browser that has signed in for the pages, and its page of access. */
  async function openAccess(name = 'alice'): Promise<{ browser: Browser; page: Answer }> {
    const browser = new Browser();
    const page = await browser.follow(await browser.get(`${url}access`), url);
    const answer = await browser.post(page.url, { name, password, token: hidden(page.text, 'token') });
    return { browser, page: await browser.follow(answer, url) };
  }

  it('need no scripts, load nothing and stand in no frame', async () => {
    const { page } = await openSignIn();
    const policy = page.headers.get('content-security-policy')!;
    assert.match(
      policy,
      /^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'; base-uri 'none'; form-action 'self' http:\/\/127\.0\.0\.1:43210; frame-ancestors 'none'$/,
    );
    assert.equal(page.headers.get('x-frame-options'), 'DENY');
    assert.equal(page.headers.get('referrer-policy'), 'no-referrer');
    assert.equal(page.headers.get('cache-control'), 'no-store');
    assert.doesNotMatch(page.text, /<script|<link|<img|https?:\/\/(?!127\.0\.0\.1)/);
  });

  it('are small', async () => {
    const { page } = await openSignIn();
    assert.ok(page.text.length < 50 * 1024, String(page.text.length));
  });

  it('refuse the same, whether it is the name or the password that is wrong', async () => {
    const texts: string[] = [];
    for (const name of ['bob', 'nobody']) {
      const { browser, page } = await openSignIn();
      const answer = await browser.post(page.url, {
        name,
        password: 'wrong',
        token: hidden(page.text, 'token'),
      });
      assert.equal(answer.status, 422);
      texts.push(
        answer.text
          .replaceAll(name, '')
          .replace(hidden(answer.text, 'token'), '')
          .replaceAll(new URL(page.url).pathname, ''),
      );
    }
    assert.equal(texts[0], texts[1]);
  });

  it('show what was typed as text', async () => {
    const { browser, page } = await openSignIn();
    const name = '"><b>x';
    const answer = await browser.post(page.url, {
      name,
      password: 'wrong',
      token: hidden(page.text, 'token'),
    });
    assert.doesNotMatch(answer.text, /<b>/);
  });

  describe('take no form', () => {
    const wrong: readonly (readonly [what: string, fields: object, headers?: Record<string, string>])[] = [
      ['without the hidden field', { token: '' }],
      ['with a hidden field of another sign-in', { token: 'x'.repeat(43) }],
      ['from another site', {}, { 'sec-fetch-site': 'cross-site' }],
      ['from a site beside this one', {}, { 'sec-fetch-site': 'same-site' }],
      ['from another origin', {}, { origin: 'https://evil.example' }],
    ];
    for (const [what, fields, headers = {}] of wrong) {
      it(what, async () => {
        const { browser, page } = await openSignIn();
        const sent = { name: 'alice', password, token: hidden(page.text, 'token'), ...fields };
        const answer = await browser.post(page.url, sent, headers);
        assert.deepEqual([answer.status, answer.location], [403, undefined]);
      });
    }

    it('of a sign-in that another browser has begun', async () => {
      const { page } = await openSignIn();
      const fields = { name: 'alice', password, token: hidden(page.text, 'token') };
      const answer = await new Browser().post(page.url, fields);
      assert.deepEqual([answer.status, answer.location], [400, undefined]);
    });

    it('in which a field comes twice', async () => {
      const { browser, page } = await openSignIn();
      const cookie = [...browser.cookies]
        .map(([name, { value }]) => `${name.split('|')[0]}=${value}`)
        .join('; ');
      const body = `name=alice&name=bob&password=x&token=${hidden(page.text, 'token')}`;
      const headers = { cookie, 'content-type': 'application/x-www-form-urlencoded' };
      assert.equal((await fetch(page.url, { method: 'POST', body, headers })).status, 400);
    });
  });

  it('are over when the sign-in is done', async () => {
    const browser = new Browser();
    const { page } = await openSignIn(browser);
    const fields = { name: 'alice', password, token: hidden(page.text, 'token') };
    await browser.follow(await browser.post(page.url, fields), url);
    assert.equal((await browser.post(page.url, fields)).status, 400);
  });

  it('give a browser a new cookie with each sign-in', async () => {
    const browser = new Browser();
    // A cookie that another site could have planted.
    await browser.get(`${url}oauth/device`);
    const cookieOf = () =>
      [...browser.cookies].find(([name]) => name.startsWith('postern-session|'))?.[1].value;
    const planted = cookieOf();
    assert.ok(planted !== undefined);
    await signIn(browser, url, begin(url));
    assert.notEqual(cookieOf(), planted);
  });

  async function openConsent(): Promise<{ browser: Browser; page: Answer }> {
    const { browser } = await openAccess();
    return { browser, page: await browser.follow(await browser.get(begin(url).url), url) };
  }

  describe('for a program, when the browser is signed in already', () => {
    it('ask before they let it in', async () => {
      const { browser, page } = await openConsent();
      assert.match(page.text, /Allow postern to connect as you/);
      const answer = await browser.post(`${page.url}/allow`, { token: hidden(page.text, 'token') });
      assert.match(
        (await browser.follow(answer, url)).location!,
        /^http:\/\/127\.0\.0\.1:43210\/.*[?&]code=/,
      );
    });

    it('report it when the person denies it', async () => {
      const { browser, page } = await openConsent();
      const answer = await browser.post(`${page.url}/refuse`, { token: hidden(page.text, 'token') });
      assert.match((await browser.follow(answer, url)).location!, /error=access_denied/);
    });

    it('let another person sign in, and sign the first one out', async () => {
      const { browser, page } = await openConsent();
      const answer = await browser.post(`${page.url}/other`, { token: hidden(page.text, 'token') });
      const again = await browser.follow(answer, url);
      const fields = { name: 'bob', password, token: hidden(again.text, 'token') };
      const back = await browser.follow(await browser.post(again.url, fields), url);
      assert.match(back.location!, /^http:\/\/127\.0\.0\.1:43210\/.*[?&]code=/);
      const access = await browser.follow(await browser.get(`${url}access`), url);
      assert.match(access.text, /Signed in as <strong>bob</);
    });

    it('let another person sign in where the program asks for it', async () => {
      const { browser } = await openAccess();
      const page = await browser.follow(await browser.get(begin(url, { prompt: 'login' }).url), url);
      const fields = { name: 'bob', password, token: hidden(page.text, 'token') };
      const back = await browser.follow(await browser.post(page.url, fields), url);
      assert.match(back.location!, /^http:\/\/127\.0\.0\.1:43210\/.*[?&]code=/);
    });

    it('do not let it in without a word, even if it asks for that', async () => {
      const { browser } = await openAccess();
      const answer = await browser.get(begin(url, { prompt: 'none' }).url);
      assert.match(answer.location!, /error=interaction_required/);
    });
  });

  describe('one’s access', () => {
    it('is for people who have signed in', async () => {
      const answer = await new Browser().get(`${url}access`);
      assert.equal(answer.status, 303);
      assert.ok(answer.location!.startsWith(`${url}oauth/auth?`));
    });

    it('shows the person’s name, the hosts within reach, and how to connect', async () => {
      const { page } = await openShared();
      assert.equal(page.status, 200);
      for (const text of ['alice', '*.dev.example', 'box.example', 'postern setup', 'ProxyCommand']) {
        assert.ok(page.text.replaceAll(/<[^>]*>/g, '').includes(text), text);
      }
    });

    it('shows nothing of other people', async () => {
      await openAccess('alice');
      const { page } = await openAccess('bob');
      assert.doesNotMatch(page.text, /alice|dev\.example/);
    });

    it('refuses a browser that has lost its cookies, and does not redirect in circles', async () => {
      assert.equal((await new Browser().get(`${url}access/signed-in`)).status, 403);
    });

    it('ends a program’s sign-in, and its tokens', async () => {
      const [key, beginning] = [await makeKey(), begin(url)];
      const back = await signIn(new Browser(), url, beginning);
      const tokens = await requestTokens(url, key, codeFields(beginning, back.location));
      const { browser, page } = await openAccess();
      const { sid } = JSON.parse(Buffer.from(tokens.access_token.split('.')[1]!, 'base64url').toString()) as {
        sid: string;
      };
      assert.ok(page.text.includes(sid));
      const answer = await browser.post(`${url}access/end-sign-in`, {
        id: sid,
        token: hidden(page.text, 'token'),
      });
      assert.equal(answer.status, 303);
      const after = await browser.follow(answer, url);
      assert.ok(!after.text.includes(sid));
      const again = { grant_type: 'refresh_token', refresh_token: tokens.refresh_token };
      assert.equal((await requestTokens(url, key, again)).error, 'invalid_grant');
    });

    it('ends another browser', async () => {
      const [one, other] = [await openAccess('bob'), await openAccess('bob')];
      const ids = [...other.page.text.matchAll(/name="id" value="([^"]+)"/g)].map(([, id]) => id!);
      for (const id of ids)
        await other.browser.post(`${url}access/end-sign-in`, { id, token: hidden(other.page.text, 'token') });
      assert.equal((await one.browser.get(`${url}access`)).status, 303);
      assert.equal((await other.browser.get(`${url}access`)).status, 200);
      // Its cookie is worth nothing for a program either.
      const page = await one.browser.follow(await one.browser.get(begin(url).url), url);
      assert.match(page.text, /type="password"/);
    });

    it('does not end the sign-in of another person', async () => {
      const [alice, bob] = [await openAccess('alice'), await openAccess('bob')];
      const id = hidden(alice.page.text, 'id');
      await bob.browser.post(`${url}access/end-sign-in`, { id, token: hidden(bob.page.text, 'token') });
      assert.ok((await alice.browser.get(`${url}access`)).text.includes(id));
    });

    it('creates a ticket for a host within reach, and shows it once', async () => {
      const { browser, page } = await openShared();
      const fields = { target: 'web.dev.example', token: hidden(page.text, 'token') };
      const answer = await browser.post(`${url}access/ticket`, fields);
      assert.match(answer.text, /pt_[A-Za-z0-9_-]{43}/);
      assert.doesNotMatch((await browser.get(`${url}access`)).text, /pt_/);
    });

    for (const target of [
      'other.example',
      'web.dev.example:23',
      'http://web.dev.example',
      '',
      '-oProxyCommand=x',
    ]) {
      it(`makes no ticket for ${JSON.stringify(target)}`, async () => {
        const { browser, page } = await openShared();
        const answer = await browser.post(`${url}access/ticket`, {
          target,
          token: hidden(page.text, 'token'),
        });
        assert.equal(answer.status, 422);
        assert.doesNotMatch(answer.text, /pt_/);
      });
    }

    it('signs out, and the cookie is worth nothing from then on', async () => {
      const { browser, page } = await openAccess();
      const before = new Map(browser.cookies);
      const answer = await browser.post(`${url}sign-out`, { token: hidden(page.text, 'token') });
      assert.equal(answer.location, `${url}signed-out`);
      assert.equal(
        [...browser.cookies.keys()].some((name) => name.startsWith('postern-session|')),
        false,
      );
      const cookie = [...before].map(([name, { value }]) => `${name.split('|')[0]}=${value}`).join('; ');
      const kept = await fetch(`${url}access`, { headers: { cookie }, redirect: 'manual' });
      assert.equal(kept.status, 303);
    });

    for (const path of ['sign-out', 'access/ticket', 'access/end-sign-in', 'access/end-session']) {
      it(`takes no ${path} without the hidden field, or by a link`, async () => {
        const { browser } = await openShared();
        assert.equal((await browser.post(`${url}${path}`, { target: 'box.example', id: 'x' })).status, 403);
        assert.equal((await browser.get(`${url}${path}`)).status, 404);
        assert.equal((await browser.get(`${url}access`)).status, 200);
      });
    }
  });

  async function askForCode(): Promise<{ user_code: string; device_code: string }> {
    const answer = await fetch(`${url}oauth/device/auth`, {
      method: 'POST',
      headers: { 'user-agent': 'postern/0.1.0 (\u001b[31m<laptop>)'.replace('\u001b', '') },
      body: new URLSearchParams({ client_id: 'postern' }),
    });
    const body = (await answer.json()) as { user_code: string; device_code: string };
    assert.equal('verification_uri_complete' in body, false);
    return body;
  }

  const typeCode = async (browser: Browser, code: string, more: Record<string, string> = {}) => {
    const page = await browser.get(`${url}oauth/device`);
    if (!page.text.includes('name="xsrf"')) return page;
    return browser.post(`${url}oauth/device`, {
      xsrf: hidden(page.text, 'xsrf'),
      user_code: code,
      ...more,
    });
  };

  const poll = async (device_code: string, key: Awaited<ReturnType<typeof makeKey>>) =>
    requestTokens(url, key, { grant_type: 'urn:ietf:params:oauth:grant-type:device_code', device_code });

  describe('for another machine', () => {
    it('let it in when its code was typed, confirmed, and the person signed in', async () => {
      const [key, browser] = [await makeKey(), new Browser()];
      const { user_code, device_code } = await askForCode();
      assert.match(user_code, /^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$/);
      assert.equal((await poll(device_code, key)).error, 'authorization_pending');
      const confirm = await typeCode(browser, user_code.toLowerCase());
      assert.match(confirm.text, /127\.0\.0\.1/);
      assert.match(confirm.text, /&#60;laptop&#62;/);
      const fields = { xsrf: hidden(confirm.text, 'xsrf'), user_code, confirm: 'yes' };
      const page = await browser.follow(await browser.post(`${url}oauth/device`, fields), url);
      const answer = await browser.post(page.url, {
        name: 'alice',
        password,
        token: hidden(page.text, 'token'),
      });
      assert.match((await browser.follow(answer, url)).text, /The other machine is signed in/);
      const tokens = await poll(device_code, key);
      assert.equal(tokens.status, 200, JSON.stringify(tokens));
      assert.equal(tokens.token_type, 'DPoP');
      const access = await browser.follow(await browser.get(`${url}access`), url);
      assert.match(access.text, /&#60;laptop&#62;/);
    });

    it('report it when the person denies it', async () => {
      const [key, browser] = [await makeKey(), new Browser()];
      const { user_code, device_code } = await askForCode();
      const confirm = await typeCode(browser, user_code);
      await browser.post(`${url}oauth/device`, {
        xsrf: hidden(confirm.text, 'xsrf'),
        user_code,
        abort: 'yes',
      });
      assert.equal((await poll(device_code, key)).error, 'access_denied');
    });

    it('never take the code from a link', async () => {
      const { user_code } = await askForCode();
      const page = await new Browser().get(`${url}oauth/device?user_code=${user_code}`);
      assert.ok(!page.text.includes(user_code));
      assert.match(page.text, /name="user_code"/);
    });

    it('take no code that comes without the hidden field', async () => {
      const { user_code } = await askForCode();
      const answer = await new Browser().post(`${url}oauth/device`, { user_code, confirm: 'yes' });
      assert.doesNotMatch(answer.text, /Allow this machine/);
    });
  });
});

describe('guessing the codes of other machines', () => {
  it('is over after five wrong ones', async () => {
    const gateway = await startTestGateway({ signIn: { deviceFlow: true } });
    try {
      const statuses: number[] = [];
      const browser = new Browser();
      const page = await browser.get(`${gateway.url}oauth/device`);
      let xsrf = hidden(page.text, 'xsrf');
      for (let tries = 0; tries < 8; tries++) {
        const answer = await browser.post(`${gateway.url}oauth/device`, {
          xsrf,
          user_code: 'BBBB-BBBB',
          confirm: 'yes',
        });
        statuses.push(answer.status);
        if (answer.text.includes('name="xsrf"')) xsrf = hidden(answer.text, 'xsrf');
      }
      assert.deepEqual(statuses, [...Array.from({ length: 5 }, () => 422), 429, 429, 429]);
      const answer = await fetch(`${gateway.url}oauth/device/auth`, {
        method: 'POST',
        body: new URLSearchParams({ client_id: 'postern' }),
      });
      const { user_code } = (await answer.json()) as { user_code: string };
      assert.equal((await browser.post(`${gateway.url}oauth/device`, { xsrf, user_code })).status, 429);
    } finally {
      await gateway.close();
    }
  });
});

describe('guessing', () => {
  let gateway: TestGateway;
  before(async () => (gateway = await startTestGateway({ signIn: { deviceFlow: true } })));
  after(() => gateway.close());

  it('the codes of other machines with many browsers at once, five are looked at', async () => {
    const asked = await fetch(`${gateway.url}oauth/device/auth`, {
      method: 'POST',
      body: new URLSearchParams({ client_id: 'postern' }),
    });
    const { user_code } = (await asked.json()) as { user_code: string };
    const forms = await Promise.all(
      Array.from({ length: 60 }, async () => {
        const browser = new Browser();
        const page = await browser.get(`${gateway.url}oauth/device`);
        return { browser, xsrf: hidden(page.text, 'xsrf') };
      }),
    );
    const letters = 'BCDFGHJKLMNPQRSTVWXZ';
    const answers = await Promise.all(
      forms.map(({ browser, xsrf }, at) => {
        const code = `BBBB-BB${letters[Math.floor(at / 20)]}${letters[at % 20]}`;
        return browser.post(`${gateway.url}oauth/device`, { xsrf, user_code: code });
      }),
    );
    assert.equal(answers.filter(({ text }) => text.includes('That code is not valid')).length, 5);
    assert.equal(answers.filter(({ status }) => status === 429).length, 55);
    const { browser, xsrf } = forms[0]!;
    const late = await browser.post(`${gateway.url}oauth/device`, { xsrf, user_code });
    assert.equal(late.status, 429, 'the right one comes too late');
  });

  it('passwords, five are looked at, and then not even the right one for a while', async () => {
    const browser = new Browser();
    const page = await browser.follow(await browser.get(begin(gateway.url).url), gateway.url);
    const token = hidden(page.text, 'token');
    const statuses: number[] = [];
    for (let tries = 0; tries < 6; tries++) {
      const fields = { name: 'alice', password: `guess number ${tries}`, token };
      statuses.push((await browser.post(page.url, fields)).status);
    }
    assert.deepEqual(statuses, [422, 422, 422, 422, 422, 429]);
    const late = await browser.post(page.url, { name: 'alice', password, token });
    assert.equal(late.status, 429);
    const wait = Number(late.headers.get('retry-after'));
    assert.ok(wait > 0 && wait <= 30, String(wait));
    // Somebody else at the same address is let in.
    const other = await browser.post(page.url, { name: 'bob', password, token });
    assert.equal(other.status, 303);
  });
});

describe('a gateway without the device flow', () => {
  it('has no page for codes, and gives none', async () => {
    const gateway = await startTestGateway();
    try {
      assert.equal((await new Browser().get(`${gateway.url}oauth/device`)).status, 404);
      const body = new URLSearchParams({ client_id: 'postern' });
      assert.equal((await fetch(`${gateway.url}oauth/device/auth`, { method: 'POST', body })).status, 404);
    } finally {
      await gateway.close();
    }
  });
});
