import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { before, describe, it } from 'node:test';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { addAccount } from '../../../server/login/accounts/accounts.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import { begin, codeFields, makeKey, type TestKey, type TokenAnswer } from '../../server/login/support.ts';
import { exchange, statusOf } from '../../server/support/gateway-parts.ts';
import { upgradeHead } from '../../server/support/peers.ts';
import { startBrowser } from '../support/browser.ts';
import { makeCertificates } from '../support/certificates.ts';
import { startGateway, type Gateway } from '../support/gateway.ts';
import {
  startIdentityProvider,
  type IdentityProviderPlan,
  type IdentityProviderProcess,
} from '../support/identity-provider.ts';
import { needs } from '../support/needs.ts';
import { freePort } from '../support/process.ts';
import { startFront } from '../support/proxies.ts';
import { openScratch } from '../support/scratch.ts';

const scratch = openScratch();
const password = 'correct horse battery';

async function signIn(page: Page): Promise<void> {
  await page.getByLabel('Name').fill('alice');
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

/** A server on the user's own machine, as the client has one. */
async function startProgram(): Promise<{ redirectUri: string; arrival: Promise<URL> }> {
  const arrived = Promise.withResolvers<URL>();
  const server = createServer((request, response) => {
    response.end('<h1>Back</h1>');
    if (request.url?.startsWith('/back')) arrived.resolve(new URL(request.url, 'http://127.0.0.1'));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scratch.onEnd(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { redirectUri: `http://127.0.0.1:${port}/back`, arrival: arrived.promise };
}

async function signInAtProvider(page: Page, name: string): Promise<void> {
  await page.locator('input[name=login]').fill(name);
  await page.locator('input[name=password]').fill('anything');
  await page.getByRole('button', { name: 'Sign-in' }).click();
  await page.getByRole('button', { name: 'Continue' }).click();
}

/** A page of another origin. */
async function startEvil(): Promise<string> {
  const { redirectUri } = await startProgram();
  return redirectUri.replace('/back', '/evil');
}

describe('signing in with Chromium, through nginx', needs('chromium', 'nginx', 'openssl'), () => {
  let browser: Browser;
  let gateway: Gateway;
  let provider: IdentityProviderProcess | undefined;
  let url: string;

  before(async () => {
    const [certificates, publicPort, providerPort] = [
      await makeCertificates(scratch),
      await freePort(),
      await freePort(),
    ];
    url = `https://localhost:${publicPort}/ssh/`;
    const storeFile = scratch.path('postern.db');
    const corp = {
      name: 'corp',
      title: 'Example Corp',
      issuer: `http://127.0.0.1:${providerPort}`,
      clientId: 'gateway',
    };
    gateway = await startGateway(scratch, {
      targets: { box: '127.0.0.1:2222', db1: '127.0.0.1:2223' },
      publicPort,
      settings: {
        store: { file: storeFile },
        control: `unix:${scratch.path('control.sock')}`,
        signIn: { deviceFlow: true, providers: [{ ...corp, groups: { 'company-developers': 'dev' } }] },
        rules: [
          { groups: ['dev'], targets: ['box', 'db1', '*.dev.example', '*.lab.example:*'] },
          { groups: ['ops'], targets: ['git.example:2222'] },
        ],
      },
    });
    const store = await openSqliteStore(storeFile);
    await addAccount(store, { name: 'alice', password, groups: ['dev', 'ops'] });
    await store.close();
    [browser, provider] = await Promise.all([
      startBrowser(scratch),
      startIdentityProvider(scratch, { ...providerPlan(), port: providerPort }),
      startFront(scratch, 'nginx', { certificates, port: publicPort, upstreamPort: gateway.port }),
    ]);
  });

  function providerPlan(): IdentityProviderPlan {
    return {
      clientId: 'gateway',
      redirectUri: `${url}callback/corp`,
      backChannelLogoutUri: `${url}back-channel-logout/corp`,
      ...(provider && { port: provider.port }),
    };
  }

  async function freshContext(options: object = {}): Promise<BrowserContext> {
    return browser.newContext({ ignoreHTTPSErrors: true, ...options });
  }

  it('shows users their access after they have signed in with an account', async () => {
    const context = await freshContext();
    const page = await context.newPage();
    await page.goto(`${url}access`);
    await signIn(page);
    await page.getByRole('heading', { name: 'Your access' }).waitFor();
    assert.equal(page.url(), `${url}access`);
    await context.close();
  });

  it('rejects a wrong password, and keeps the name', async () => {
    const context = await freshContext();
    const page = await context.newPage();
    await page.goto(`${url}access`);
    await page.getByLabel('Name').fill('alice');
    await page.getByLabel('Password').fill('wrong');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').waitFor();
    assert.equal(await page.getByLabel('Name').inputValue(), 'alice');
    assert.equal(await page.getByLabel('Password').inputValue(), '');
    await context.close();
  });

  it('works by keyboard alone, and without scripts', async () => {
    const context = await freshContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(`${url}access`);
    // The first field has the focus.
    await page.locator('#name:focus').waitFor();
    await page.keyboard.type('alice');
    await page.keyboard.press('Tab');
    await page.keyboard.type(password);
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Your access' }).waitFor();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('heading', { name: 'You are signed out' }).waitFor();
    await page.goto(`${url}access`);
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    await context.close();
  });

  it('gives a program its code, and with it a token that opens a tunnel and that no other program can use', async () => {
    const context = await freshContext();
    const page = await context.newPage();
    const [key, program] = [await makeKey(), await startProgram()];
    const beginning = begin(url, { redirect_uri: program.redirectUri, dpop_jkt: key.thumbprint });
    await page.goto(beginning.url);
    await signIn(page);
    const back = await program.arrival;
    assert.equal(back.searchParams.get('state'), beginning.state);
    assert.equal(back.searchParams.get('iss'), `${url}oauth`);
    const fields = { ...codeFields(beginning, back.href), redirect_uri: program.redirectUri };
    const tokens = await tokensFor(key, fields);
    assert.equal(tokens.token_type, 'DPoP');
    assert.equal(
      await tunnelStatus(key, tokens.access_token),
      502,
      'no process listens there, but the token is good',
    );
    assert.equal(await tunnelStatus(undefined, tokens.access_token), 401);
    assert.equal(await tunnelStatus(await makeKey(), tokens.access_token), 401);

    // The same code again: what it gave is over.
    assert.equal((await tokensFor(key, fields)).error, 'invalid_grant');
    assert.equal(await tunnelStatus(key, tokens.access_token), 401);
    await context.close();
  });

  it('asks a signed-in user for consent before a program gets access, and ends the access by its button', async () => {
    const context = await freshContext();
    const page = await context.newPage();
    await page.goto(`${url}access`);
    await signIn(page);
    const [key, program] = [await makeKey(), await startProgram()];
    const beginning = begin(url, { redirect_uri: program.redirectUri });
    await page.goto(beginning.url);
    await page.getByRole('button', { name: 'Allow' }).click();
    const back = await program.arrival;
    const fields = { ...codeFields(beginning, back.href), redirect_uri: program.redirectUri };
    const tokens = await tokensFor(key, fields);
    assert.equal(await tunnelStatus(key, tokens.access_token), 502);
    await page.goto(`${url}access`);
    await page
      .getByRole('button', { name: 'End the sign-in of postern, signed in with Chrome on Linux' })
      .click();
    await page.getByText('The sign-in has ended').waitFor();
    assert.equal(await tunnelStatus(key, tokens.access_token), 401);
    await context.close();
  });

  it('signs in at a company’s provider, and maps its groups', async () => {
    const context = await freshContext();
    const page = await context.newPage();
    await page.goto(`${url}access`);
    await page.getByRole('link', { name: 'Continue with Example Corp' }).click();
    await signInAtProvider(page, 'carol');
    await page.getByRole('heading', { name: 'Your access' }).waitFor();
    await page.getByText('Signed in as corp:carol (group: dev).').waitFor();
    await context.close();
  });

  it('ends every sign-in of a provider’s session when that session is over', async () => {
    const context = await freshContext();
    const page = await context.newPage();
    await page.goto(`${url}access`);
    await page.getByRole('link', { name: 'Continue with Example Corp' }).click();
    await signInAtProvider(page, 'dave');
    await page.getByRole('heading', { name: 'Your access' }).waitFor();
    // oidc-provider's own page: it tells the gateway before it says that one is out.
    await page.goto(`${provider!.issuer}/session/end`);
    await page.getByRole('button', { name: 'Yes, sign me out' }).click();
    await page.waitForURL(/session\/end\/success/);
    await page.goto(`${url}access`);
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    await context.close();
  });

  it('reports a provider that is down, and keeps existing sign-ins', async () => {
    const [signedIn, fresh] = [await freshContext(), await freshContext()];
    const page = await signedIn.newPage();
    await page.goto(`${url}access`);
    await page.getByRole('link', { name: 'Continue with Example Corp' }).click();
    await signInAtProvider(page, 'erin');
    await page.getByRole('heading', { name: 'Your access' }).waitFor();
    await provider!.running.stop();
    await page.reload();
    await page.getByText('Signed in as corp:erin').waitFor();
    const stranger = await fresh.newPage();
    await stranger.goto(`${url}access`);
    await stranger.getByRole('link', { name: 'Continue with Example Corp' }).click();
    // The gateway has the metadata still: it is the browser that finds no server.
    await stranger.waitForURL(/^chrome-error:/).catch(() => {});
    provider = await startIdentityProvider(scratch, providerPlan());
    await Promise.all([signedIn.close(), fresh.close()]);
  });

  it('signs in another machine by its code', async () => {
    const context = await freshContext();
    const page = await context.newPage();
    const key = await makeKey();
    const { user_code, device_code } = await deviceCode();
    await page.goto(`${url}oauth/device?user_code=${user_code}`);
    assert.equal(await page.getByLabel('Code').inputValue(), '');
    await page.getByLabel('Code').fill(user_code.toLowerCase().replace('-', ' '));
    await page.keyboard.press('Enter');
    await page.getByText('postern/0.1.0 (laptop-7)').waitFor();
    await page.getByRole('button', { name: 'I started this' }).click();
    await signIn(page);
    await page.getByRole('heading', { name: 'The other machine is signed in' }).waitFor();
    const tokens = await tokensFor(key, {
      grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
      device_code,
    });
    assert.equal(await tunnelStatus(key, tokens.access_token), 502);
    await context.close();
  });

  it('cannot be framed by another page', async () => {
    const context = await freshContext();
    const page = await context.newPage();
    for (const path of ['', 'access', 'oauth/device', 'signed-out']) {
      const blocked = page.waitForEvent('console', (message) =>
        /frame-ancestors|X-Frame-Options/.test(message.text()),
      );
      await page.setContent(`<iframe src="${url}${path}"></iframe>`);
      await blocked;
    }
    await context.close();
  });

  describe('from a page of another origin', () => {
    it('no tunnel opens, with all the cookies there are', async () => {
      const context = await freshContext();
      const page = await context.newPage();
      await page.goto(`${url}access`);
      await signIn(page);
      await page.getByRole('heading', { name: 'Your access' }).waitFor();
      const evil = await startEvil();
      await page.goto(evil);
      const opened = await page.evaluate(
        `new Promise((resolve) => {
          const socket = new WebSocket(${JSON.stringify(`${url.replace('https', 'wss')}tcp/box/22/`)});
          socket.onopen = () => resolve('open');
          socket.onerror = () => resolve('refused');
        })`,
      );
      assert.equal(opened, 'refused');
      await context.close();
    });

    it('no form is taken, and no answer can be read', async () => {
      const context = await freshContext();
      const page = await context.newPage();
      await page.goto(`${url}access`);
      await signIn(page);
      await page.getByRole('heading', { name: 'Your access' }).waitFor();
      await page.goto(await startEvil());
      await page.setContent(`<form method="post" action="${url}sign-out"><button>Win</button></form>`);
      await page.getByRole('button', { name: 'Win' }).click();
      await page.getByRole('heading', { name: 'This page is out of date' }).waitFor();
      await page.goto(await startEvil());
      const read = await page.evaluate(
        `fetch(${JSON.stringify(`${url}access`)}, { credentials: 'include' }).then(() => 'read', () => 'refused')`,
      );
      assert.equal(read, 'refused');
      await page.goto(`${url}access`);
      await page.getByRole('heading', { name: 'Your access' }).waitFor();
      await context.close();
    });
  });

  it('has cookies out of reach of scripts and of plain HTTP, below its prefix only', async () => {
    const context = await freshContext();
    const page = await context.newPage();
    await page.goto(`${url}access`);
    await signIn(page);
    await page.getByRole('heading', { name: 'Your access' }).waitFor();
    const cookies = await context.cookies();
    assert.ok(cookies.length > 0);
    for (const cookie of cookies) {
      assert.match(cookie.name, /^__Secure-postern-/);
      assert.ok(cookie.httpOnly && cookie.secure && cookie.path.startsWith('/ssh/'), JSON.stringify(cookie));
      assert.ok(['Lax', 'Strict'].includes(cookie.sameSite));
    }
    await context.close();
  });

  describe('looks right', () => {
    const looks = [
      { name: 'wide', viewport: { width: 1280, height: 800 } },
      { name: 'phone', viewport: { width: 390, height: 844 } },
    ].flatMap((size) => (['light', 'dark'] as const).map((colorScheme) => ({ ...size, colorScheme })));
    for (const { name, ...options } of looks) {
      it(`${name} and ${options.colorScheme}`, async () => {
        const context = await freshContext(options);
        const page = await context.newPage();
        const shot = async (what: string) => {
          const folder = process.env['POSTERN_SCREENSHOTS'];
          if (folder)
            await page.screenshot({
              path: `${folder}/${what}-${name}-${options.colorScheme}.png`,
              fullPage: true,
            });
          const wider = await page.evaluate('document.documentElement.scrollWidth > window.innerWidth');
          assert.equal(wider, false, `${what} is wider than the window`);
        };
        await page.goto(url);
        await shot('start');
        await page.goto(`${url}access`);
        await shot('sign-in');
        await page.getByLabel('Name').fill('alice');
        await page.getByLabel('Password').fill('wrong');
        await page.getByRole('button', { name: 'Sign in' }).click();
        await page.getByRole('alert').waitFor();
        await shot('sign-in-wrong');
        await signIn(page);
        await page.getByRole('heading', { name: 'Your access' }).waitFor();
        await page.getByLabel('Host').fill('box');
        await page.getByRole('button', { name: 'Create a ticket' }).click();
        await page.getByText('not be shown again').waitFor();
        await shot('access');
        await page.goto(begin(url).url);
        await page.getByRole('heading', { name: 'Allow postern' }).waitFor();
        await shot('consent');
        await page.goto(`${url}oauth/device`);
        await shot('device');
        const code = await deviceCode();
        await page.getByLabel('Code').fill(code.user_code);
        await page.getByRole('button', { name: 'Continue' }).click();
        await page.getByRole('heading', { name: 'Allow this machine' }).waitFor();
        await shot('device-confirm');
        await page.getByRole('button', { name: 'I started this' }).click();
        await page.getByRole('heading', { name: 'signed in' }).waitFor();
        await shot('device-done');
        await page.goto(`${url}sign-in/nothing`);
        await shot('error');
        await page.goto(`${url}signed-out`);
        await shot('signed-out');
        await context.close();
      });
    }
  });

  it('leaves a log of one format, and no secret in it or in that of nginx', () => {
    const lines = gateway.running.log().trim().split('\n');
    for (const line of lines) assert.doesNotThrow(() => JSON.parse(line) as unknown, line);
    const everything = `${lines.join('\n')}${readFileSync(scratch.path('nginx.access.log'), 'utf8')}${readFileSync(gateway.auditFile, 'utf8')}`;
    assert.ok(!everything.includes(password));
    // Whole ones: three letters of a random id may look like the beginning of either.
    for (const form of [/pt_[\w-]{43}/, /eyJ[\w-]{8,}\.[\w-]+/]) assert.doesNotMatch(everything, form);
  });

  /** The gateway's own door: Node knows nothing of the certificate. */
  async function tokensFor(key: TestKey, fields: Record<string, string>): Promise<TokenAnswer> {
    const answer = await fetch(`http://127.0.0.1:${gateway.port}/ssh/oauth/token`, {
      method: 'POST',
      headers: { DPoP: await key.prove('POST', `${url}oauth/token`) },
      body: new URLSearchParams({ client_id: 'postern', ...fields }),
    });
    return { status: answer.status, ...((await answer.json()) as Omit<TokenAnswer, 'status'>) };
  }

  /** The status of the answer to a request for a tunnel to `box`, where no process listens. */
  async function tunnelStatus(key: TestKey | undefined, token: string): Promise<number> {
    const ath = createHash('sha256').update(token).digest('base64url');
    const proof = key && (await key.prove('GET', `${url}tcp/box/22/`, { ath }));
    const authorization = proof === undefined ? `Bearer ${token}` : `DPoP ${token}\r\nDPoP: ${proof}`;
    const head = upgradeHead('/ssh/tcp/box/22/', 'connect-tcp', `Authorization: ${authorization}\r\n`);
    return statusOf(await exchange(gateway.port, head));
  }

  async function deviceCode(): Promise<{
    user_code: string;
    device_code: string;
    verification_uri_complete?: string;
  }> {
    const answer = await fetch(`http://127.0.0.1:${gateway.port}/ssh/oauth/device/auth`, {
      method: 'POST',
      headers: { 'User-Agent': 'postern/0.1.0 (laptop-7)' },
      body: new URLSearchParams({ client_id: 'postern', scope: 'openid' }),
    });
    assert.equal(answer.status, 200);
    return (await answer.json()) as { user_code: string; device_code: string };
  }
});
