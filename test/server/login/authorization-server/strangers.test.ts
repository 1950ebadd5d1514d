// SECURITY: what a caller that has not signed in can cost the authorization server, and other people.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { z } from 'zod';
import { modelTable } from '../../../../server/login/authorization-server/store-adapter.ts';
import { openSqliteStore } from '../../../../server/store/open-store.ts';
import { exchange } from '../../support/gateway-parts.ts';
import { spellings } from '../../support/spellings.ts';
import { Browser, begin, hidden, startTestGateway } from '../support.ts';
import type { Answer, TestGateway } from '../support.ts';

let gateway: TestGateway;

/** One gateway for the tests of a suite: each has its own count of requests. */
function withGateway(): void {
  before(async () => (gateway = await startTestGateway({ signIn: { deviceFlow: true } })));
  after(() => gateway.close());
}

async function rows(model: string): Promise<number> {
  const store = await openSqliteStore(gateway.storeFile);
  try {
    return (await modelTable(store, model).list()).length;
  } finally {
    await store.close();
  }
}

async function wrongCodes(): Promise<readonly (readonly [string, number])[]> {
  const store = await openSqliteStore(gateway.storeFile);
  try {
    return await store.table('deviceCodeAttempts', z.number()).list();
  } finally {
    await store.close();
  }
}

async function raw(target: string, method = 'GET', more = ''): Promise<string> {
  const head = `${method} ${target} HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n${more}\r\n`;
  return exchange(Number(new URL(gateway.url).port), Buffer.from(head, 'utf8'));
}

async function askForCode(): Promise<string> {
  const answer = await fetch(`${gateway.url}oauth/device/auth`, {
    method: 'POST',
    body: new URLSearchParams({ client_id: 'postern' }),
  });
  return ((await answer.json()) as { user_code: string }).user_code;
}

describe('the code of another machine', () => {
  withGateway();

  it('comes from no link, however it is spelt', async () => {
    const code = 'BBBB-CCCC';
    const queries = [
      `user_code=${code}`,
      `user_code=&user_code=${code}`,
      `user_code=${code}&user_code=${code}`,
      `user%5Fcode=${code}`,
      `USER_CODE=${code}`,
      `user_code[]=${code}`,
      `user_code[0]=${code}`,
      `user_code=BBBB%2DCCCC`,
      `&&user_code=${code}`,
      `a?user_code=${code}`,
      `a;user_code=${code}`,
      `xsrf=1&user_code=${code}&confirm=yes`,
    ];
    const targets = [
      ...queries.map((query) => `/ssh/oauth/device?${query}`),
      ...spellings('/ssh/oauth/device').map((path) => `${path}?user_code=${code}`),
    ];
    for (const target of targets) {
      const answer = await raw(target);
      if (answer.startsWith('HTTP/1.1 200')) assert.doesNotMatch(answer, /BBBB/, target);
      assert.match(answer, /^HTTP\/1\.1 (?:200|400|404|414|429) /, target);
      if (answer.startsWith('HTTP/1.1 200') && answer.includes('name="user_code"'))
        assert.match(answer, /content-security-policy: /i, target);
    }
  });
});

describe('requests that cost a write', () => {
  withGateway();

  it('keep no long parameter', async () => {
    for (const name of ['state', 'nonce', 'login_hint', 'ui_locales', 'acr_values']) {
      const answer = await new Browser().get(begin(gateway.url, { [name]: 'x'.repeat(4000) }).url);
      const error = new URL(answer.location ?? 'none:').searchParams.get('error');
      assert.ok(
        answer.status === 400 || error === 'invalid_request',
        `${name}: ${answer.status} ${answer.location}`,
      );
    }
    assert.equal(await rows('Interaction'), 0);
    const answer = await fetch(`${gateway.url}oauth/device/auth`, {
      method: 'POST',
      body: new URLSearchParams({ client_id: 'postern', nonce: 'x'.repeat(30_000) }),
    });
    assert.equal(answer.status, 400);
    assert.equal(await rows('DeviceCode'), 0);
  });

  it('are counted by their route, HEAD like GET', async () => {
    const query = new URL(begin(gateway.url).url).search;
    const statuses: string[] = [];
    for (let at = 0; at < 124; at++) {
      const answer = await raw(`/ssh/oauth/auth${query}`, at % 2 === 0 ? 'HEAD' : 'GET');
      statuses.push(answer.slice(9, 12));
    }
    assert.deepEqual(statuses, [
      // Six requests of the test before this one count too.
      ...Array.from({ length: 114 }, () => '303'),
      ...Array.from({ length: 10 }, () => '429'),
    ]);
    assert.equal(await rows('Interaction'), 114);
    for (const path of [
      'AUTH',
      'auth/',
      'Auth',
      '%61uth',
      '/auth',
      'auth;x',
      'DEVICE/AUTH',
      'device/auth/',
    ]) {
      for (const method of ['GET', 'HEAD'])
        assert.match(await raw(`/ssh/oauth/${path}${query}`, method), /^HTTP\/1\.1 404 /, path);
    }
    assert.equal(await rows('Interaction'), 114);
  });
});

async function post(
  browser: Browser,
  fields: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return browser.post(`${gateway.url}oauth/device`, fields, headers);
}

async function works(): Promise<void> {
  const browser = new Browser();
  const xsrf = hidden((await browser.get(`${gateway.url}oauth/device`)).text, 'xsrf');
  const answer = await post(browser, { xsrf, user_code: await askForCode() });
  assert.equal(answer.status, 200);
  assert.match(answer.text, /name="confirm"/);
}

describe('the form for a code', () => {
  withGateway();

  const strangers: readonly (readonly [
    what: string,
    send: () => Promise<{ readonly status: number }>,
    status: number,
  ])[] = [
    ['without a cookie', () => post(new Browser(), { user_code: 'BBBB-BBBB' }), 400],
    [
      'of another site, without a cookie',
      () => post(new Browser(), { user_code: 'BBBB-BBBB' }, { 'Sec-Fetch-Site': 'cross-site' }),
      400,
    ],
    [
      'of another site',
      async () => {
        const browser = new Browser();
        const xsrf = hidden((await browser.get(`${gateway.url}oauth/device`)).text, 'xsrf');
        return post(browser, { xsrf, user_code: 'BBBB-BBBB' }, { 'Sec-Fetch-Site': 'cross-site' });
      },
      403,
    ],
    [
      'of another origin',
      async () => {
        const browser = new Browser();
        const xsrf = hidden((await browser.get(`${gateway.url}oauth/device`)).text, 'xsrf');
        return post(browser, { xsrf, user_code: 'BBBB-BBBB' }, { Origin: 'https://evil.example' });
      },
      403,
    ],
    [
      'without its hidden field',
      async () => {
        const browser = new Browser();
        await browser.get(`${gateway.url}oauth/device`);
        return post(browser, { user_code: 'BBBB-BBBB' });
      },
      400,
    ],
    [
      'without a code',
      async () => {
        const browser = new Browser();
        const xsrf = hidden((await browser.get(`${gateway.url}oauth/device`)).text, 'xsrf');
        return post(browser, { xsrf });
      },
      422,
    ],
    [
      'of another content type',
      async () => {
        const browser = new Browser();
        await browser.get(`${gateway.url}oauth/device`);
        return post(browser, {}, { 'Content-Type': 'text/plain' });
      },
      400,
    ],
  ];
  for (const [what, send, status] of strangers) {
    it(`${what} is refused, and locks nobody out`, async () => {
      for (let at = 0; at < 7; at++) assert.equal((await send()).status, status);
      assert.deepEqual(await wrongCodes(), []);
      await works();
    });
  }

  it('with a right code is not counted, and with a wrong one it is', async () => {
    await works();
    assert.deepEqual(await wrongCodes(), []);
    const browser = new Browser();
    const xsrf = hidden((await browser.get(`${gateway.url}oauth/device`)).text, 'xsrf');
    assert.equal((await post(browser, { xsrf, user_code: 'BBBB-BBBB' })).status, 422);
    assert.deepEqual(
      (await wrongCodes()).map(([, count]) => count),
      [1],
    );
  });

  it('in the middle of a sign-in that is unknown is a page that says so', async () => {
    const answer = await new Browser().get(`${gateway.url}oauth/device/${'0'.repeat(43)}`);
    assert.equal(answer.status, 400);
    assert.match(answer.text, /This sign-in has ended/);
    assert.equal((await new Browser().get(`${gateway.url}oauth/device/x`)).status, 404);
  });
});
