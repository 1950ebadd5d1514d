import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import { makeProofKey } from '../../../client/oauth/dpop.ts';
import { requestTokens } from '../../../client/oauth/token-request.ts';
import type { TokenAnswer } from '../../../client/oauth/token-request.ts';
import { answering, listen } from '../support.ts';

const never = new AbortController().signal;
const good = { access_token: 'access', refresh_token: 'refresh', token_type: 'DPoP', expires_in: 600 };

/** Asks a token endpoint that answers with these bytes. */
async function ask(t: TestContext, bytes: string): Promise<TokenAnswer> {
  const port = await listen(t, answering(bytes));
  const endpoint = new URL(`http://127.0.0.1:${port}/ssh/oauth/token`);
  const request = { endpoint, clientId: 'postern', key: makeProofKey().key, clockOffsetMs: 0 };
  return requestTokens(request, { grant_type: 'refresh_token' }, { egress: direct, signal: never });
}

function answer(status: number, body: string, fields = 'Content-Type: application/json\r\n'): string {
  return `HTTP/1.1 ${status} X\r\n${fields}Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
}

describe('requestTokens()', () => {
  it('takes tokens that are bound to the key', async (t) => {
    const answered = await ask(t, answer(200, JSON.stringify(good)));
    assert.ok(answered.kind === 'issued');
    assert.equal(answered.accessToken.reveal(), 'access');
    assert.ok(answered.renewAt < answered.expiresAt);
  });

  it('gives a refusal in the words of OAuth', async (t) => {
    assert.deepEqual(await ask(t, answer(400, '{"error": "invalid_grant"}')), {
      kind: 'refused',
      error: 'invalid_grant',
    });
  });

  for (const [what, bytes] of [
    ['nothing', ''],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['a page', answer(200, '<h1>Sign in to the Wi-Fi</h1>', 'Content-Type: text/html\r\n')],
    ['a page that says it is JSON', answer(200, '<h1>Sign in to the Wi-Fi</h1>')],
    ['half of it', answer(200, JSON.stringify(good)).slice(0, -10)],
    [
      'another place',
      answer(302, '{}', 'Content-Type: application/json\r\nLocation: http://evil.example/\r\n'),
    ],
    ['a fault', answer(500, '{"error": "server_error"}')],
    ['no reason', answer(400, '{}')],
    ['a list', answer(200, '[]')],
    ['null', answer(200, 'null')],
    ['more than anybody needs', answer(200, JSON.stringify({ ...good, more: 'x'.repeat(300 * 1024) }))],
    ...(
      [
        ['a token that needs no key', { token_type: 'Bearer' }],
        ['no type of token', { token_type: undefined }],
        ['no token', { access_token: undefined }],
        ['a token that is no text', { access_token: ['a'] }],
        ['a token with another line in it', { access_token: 'a\r\nX-Evil: 1' }],
        ['a token that no header can hold', { access_token: 'a'.repeat(9000) }],
        ['a refresh token that is no text', { refresh_token: 7 }],
        ['no end', { expires_in: undefined }],
        ['an end in the past', { expires_in: -1 }],
        ['an end as text', { expires_in: '600' }],
        ['an end that is no time', { expires_in: 1e300 }],
      ] as const
    ).map(([what, change]) => [what, answer(200, JSON.stringify({ ...good, ...change }))] as const),
    ['an end beyond all numbers', answer(200, JSON.stringify(good).replace('600', '1e999'))],
  ] as const) {
    it(`says HTTP_UNEXPECTED to ${what}`, async (t) => {
      await assert.rejects(ask(t, bytes), { code: 'HTTP_UNEXPECTED' });
    });
  }
});
