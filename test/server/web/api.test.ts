import assert from 'node:assert/strict';
import { createHash, createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SignJWT, decodeJwt } from 'jose';
import type { JWTPayload } from 'jose';
import { openSigningKeys } from '../../../server/login/authorization-server/signing-keys.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import {
  Browser,
  begin,
  codeFields,
  makeKey,
  requestTokens,
  signIn,
  startTestGateway,
} from '../login/support.ts';
import type { TestGateway, TestKey } from '../login/support.ts';

interface Reply {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

/** A token with these claims, signed with the sign-in's own key as an access token. */
async function signed(storeFile: string, claims: JWTPayload): Promise<string> {
  const store = await openSqliteStore(storeFile);
  try {
    const keys = await openSigningKeys(store);
    keys.close();
    const [jwk] = keys.current;
    return await new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid: jwk.kid! })
      .sign(createPrivateKey({ key: jwk, format: 'jwk' }));
  } finally {
    await store.close();
  }
}

describe('the API', () => {
  let gateway: TestGateway;
  let key: TestKey;
  let tokens: { readonly access_token: string; readonly id_token?: string };
  before(async () => {
    gateway = await startTestGateway({ trustedProxies: ['127.0.0.0/8', '10.9.0.0/16'] });
    key = await makeKey();
    const beginning = begin(gateway.url);
    const back = await signIn(new Browser(), gateway.url, beginning);
    tokens = await requestTokens(gateway.url, key, codeFields(beginning, back.location));
  });
  after(() => gateway.close());

  async function ask(
    path: string,
    {
      token = tokens.access_token,
      body,
      headers = {},
    }: { token?: string; body?: object; headers?: object } = {},
  ): Promise<Reply> {
    const url = new URL(path, gateway.url);
    const method = body ? 'POST' : 'GET';
    const ath = createHash('sha256').update(token).digest('base64url');
    const asking = request(url, {
      method,
      headers: {
        authorization: `DPoP ${token}`,
        dpop: await key.prove(method, url.href, { ath }),
        ...(body && { 'content-type': 'application/json' }),
        ...headers,
      },
    }).end(body && JSON.stringify(body));
    const response = await new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
      asking.on('response', resolve).on('error', reject);
    });
    return { status: response.statusCode!, body: (await json(response)) as Record<string, unknown> };
  }

  function audited(event: string): Record<string, unknown>[] {
    return readFileSync(join(gateway.folder, 'audit.jsonl'), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((record) => record['event'] === event);
  }

  describe('names the client as the tunnel of the same client is named', () => {
    const table: readonly (readonly [forwarded: string, client: string])[] = [
      ['203.0.113.5', '203.0.113.5'],
      ['198.51.100.1, 203.0.113.5', '203.0.113.5'],
      ['198.51.100.1, 203.0.113.5, 10.9.0.1', '203.0.113.5'],
      ['unknown', '127.0.0.1'],
      ['203.0.113.5, unknown', '127.0.0.1'],
      ['203.0.113.5:4711', '127.0.0.1'],
      ['203.0.113.5, 127.1', '127.0.0.1'],
      ['::ffff:203.0.113.5', '203.0.113.5'],
      ['2001:db8::7', '2001:db8::7'],
      [',,', '127.0.0.1'],
      ['203.0.113.5,', '127.0.0.1'],
    ];
    for (const [at, [forwarded, client]] of table.entries()) {
      it(`${client} for ${JSON.stringify(forwarded)}`, async () => {
        const headers = { 'x-forwarded-for': forwarded };
        assert.equal((await ask('api/access', { headers })).body['client'], client);
        assert.equal((await ask('api/tickets', { headers, body: {} })).status, 201);
        const before = audited('refuse').length;
        // A tunnel of an unknown host is refused, and recorded with the same client.
        await ask('http/connect?host=x&port=22', { headers, body: {} });
        // The audit is written after the answer.
        while (audited('refuse').length === before || audited('ticket').length <= at) await delay(10);
        const [ticket, refused] = [audited('ticket').at(-1), audited('refuse').at(-1)];
        assert.deepEqual([ticket?.['client'], refused?.['client']], [client, client]);
      });
    }
  });

  describe('makes no ticket', () => {
    const denied: readonly (readonly string[])[] = [
      ['nope'],
      ['box.example:23'],
      ['box.example', 'nope'],
      ['*.example:22', '*.other.example'],
      ['dev.example'],
      ['192.0.2.1'],
    ];
    for (const targets of denied) {
      it(`for ${targets.join(' and ')}, which its holder cannot reach`, async () => {
        const { status, body } = await ask('api/tickets', { body: { targets } });
        assert.deepEqual([status, body['code']], [403, 'TARGET_DENIED']);
      });
    }

    for (const targets of [['box.example'], ['a.dev.example', '*.b.dev.example'], ['*:*'], ['*']]) {
      it(`but one for ${targets.join(' and ')}`, async () => {
        assert.equal((await ask('api/tickets', { body: { targets } })).status, 201);
      });
    }
  });

  describe('takes access tokens only:', () => {
    it('an ID token is none', async () => {
      assert.equal((await ask('api/access')).status, 200);
      assert.equal((await ask('api/access', { token: tokens.id_token! })).status, 401);
    });

    it('neither is one with the type of an access token', async () => {
      const access = decodeJwt(tokens.access_token);
      assert.equal((await ask('api/access', { token: await signed(gateway.storeFile, access) })).status, 200);
      const id = { ...decodeJwt(tokens.id_token!), cnf: access['cnf'], sid: access['sid'] };
      const token = await signed(gateway.storeFile, {
        ...id,
        auth_time: access['auth_time'],
        groups: ['dev'],
      });
      const { status, body } = await ask('api/access', { token });
      assert.deepEqual([status, body['code']], [401, 'TOKEN_INVALID']);
    });
  });
});
