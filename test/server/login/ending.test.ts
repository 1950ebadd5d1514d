import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { openRevocations } from '../../../server/auth/revocations.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import { startEcho } from '../support/gateway-parts.ts';
import { rawUpgrade, upgradeHead } from '../support/peers.ts';
import {
  Browser,
  begin,
  codeFields,
  hidden,
  makeKey,
  requestTokens,
  signIn,
  startTestGateway,
} from './support.ts';
import type { TestGateway, TestKey, TokenAnswer } from './support.ts';

describe('ending', () => {
  let gateway: TestGateway;
  let echo: Awaited<ReturnType<typeof startEcho>>;
  let browser: Browser;
  let key: TestKey;
  let tokens: TokenAnswer;

  before(async () => {
    echo = await startEcho();
    gateway = await startTestGateway({
      targets: { echo: { address: `127.0.0.1:${echo.port}` } },
      rules: [{ groups: ['dev'], targets: ['echo'] }],
      network: { allow: ['127.0.0.1/32'] },
    });
  });
  after(async () => {
    await gateway.close();
    echo.close();
  });

  /** A browser and a program of alice, both signed in, and a tunnel of the program. */
  async function open(): Promise<Socket> {
    const { url } = gateway;
    [browser, key] = [new Browser(), await makeKey()];
    const beginning = begin(url);
    const back = await signIn(browser, url, beginning);
    tokens = await requestTokens(url, key, codeFields(beginning, back.location));
    return tunnel(tokens.access_token);
  }

  async function tunnel(token: string): Promise<Socket> {
    const target = new URL('tcp/echo/22/', gateway.url);
    const ath = createHash('sha256').update(token).digest('base64url');
    const proof = await key.prove('GET', target.href, { ath });
    const socket = await rawUpgrade(
      Number(target.port),
      upgradeHead(target.pathname, 'connect-tcp', `Authorization: DPoP ${token}\r\nDPoP: ${proof}\r\n`),
    );
    socket.on('error', () => {});
    socket.on('end', () => socket.destroy());
    socket.resume();
    return socket;
  }

  async function refresh(): Promise<TokenAnswer> {
    return requestTokens(gateway.url, key, {
      grant_type: 'refresh_token',
      refresh_token: tokens.refresh_token,
    });
  }

  it('a session by its button ends the tunnel, and no more', async () => {
    const socket = await open();
    const page = await browser.get(`${gateway.url}access`);
    const [, id] = /end-session"[^]*?name="id" value="([^"]+)"/.exec(page.text)!;
    const received: Buffer[] = [];
    socket.on('data', (bytes: Buffer) => received.push(bytes));
    const closed = once(socket, 'close');
    const answer = await browser.post(`${gateway.url}access/end-session`, {
      id: id!,
      token: hidden(page.text, 'token'),
    });
    assert.equal(answer.status, 303);
    await closed;
    assert.match(
      String(Buffer.concat(received)),
      new RegExp(`KILLED: you ended this session on ${gateway.url}access`),
    );
    const ends = (): string[] => readFileSync(gateway.auditFile, 'utf8').match(/"cause":"KILLED".*/g) ?? [];
    while (ends().length === 0) await delay(10);
    assert.match(ends()[0]!, new RegExp(`ended by its owner on ${gateway.url}access`));
    assert.doesNotMatch((await browser.get(`${gateway.url}access`)).text, /end-session"/);
    (await tunnel((await refresh()).access_token)).destroy();
  });

  it('a sign-in by its button ends the tunnel within a second', async () => {
    const socket = await open();
    const page = await browser.get(`${gateway.url}access`);
    const { sid: id } = JSON.parse(
      Buffer.from(tokens.access_token.split('.')[1]!, 'base64url').toString(),
    ) as { sid: string };
    const [closed, asked] = [once(socket, 'close'), performance.now()];
    await browser.post(`${gateway.url}access/end-sign-in`, { id, token: hidden(page.text, 'token') });
    await closed;
    assert.ok(performance.now() - asked < 5000);
    assert.equal((await refresh()).error, 'invalid_grant');
  });

  it('everything of a person, from another process, ends the tunnel, the program and the browser within a second', async () => {
    const socket = await open();
    const store = await openSqliteStore(gateway.storeFile);
    const revocations = await openRevocations(store);
    const [closed, asked] = [once(socket, 'close'), performance.now()];
    await revocations.revoke({ kind: 'subject', subject: 'alice', issuedBefore: Date.now() }, 'test');
    await closed;
    assert.ok(performance.now() - asked < 5000);
    assert.equal((await refresh()).error, 'invalid_grant');
    assert.equal((await browser.get(`${gateway.url}access`)).status, 303);
    revocations.close();
    await store.close();
    // Who signs in anew is in, in the same second too.
    (await open()).destroy();
  });

  it('everything of a person ends no sign-in that comes after it, however soon, and each that was before', async () => {
    const store = await openSqliteStore(gateway.storeFile);
    const revocations = await openRevocations(store);
    await open();
    const before = tokens;
    for (let round = 0; round < 3; round++) {
      await revocations.revoke({ kind: 'subject', subject: 'alice', issuedBefore: Date.now() }, 'test');
      // The other process hears of it before it answers.
      while ((await browser.get(`${gateway.url}access`)).status !== 303);
      (await open()).destroy();
    }
    await assert.rejects(tunnel(before.access_token), /TOKEN_INVALID/);
    revocations.close();
    await store.close();
  });
});
