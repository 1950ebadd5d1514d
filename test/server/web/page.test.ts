import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { accessPage } from '../../../server/login/pages/access-page.ts';
import { explainError } from '../../../server/web/error-page.ts';
import { command, html, pageHeaders, renderPage } from '../../../server/web/page.ts';
import { agentOf } from '../../../server/login/pages/user-agent.ts';

describe('html', () => {
  const parts: readonly (readonly [part: Parameters<typeof html>[1], text: string])[] = [
    ['<b>', '&#60;b&#62;'],
    ['"\'&', '&#34;&#39;&#38;'],
    [html`<b>x</b>`, '<b>x</b>'],
    [[html`<i></i>`, '<i>'], '<i></i>&#60;i&#62;'],
    [0, '0'],
    [false, ''],
    [undefined, ''],
    ['', ''],
  ];
  for (const [part, text] of parts) {
    it(`makes ${JSON.stringify(String(part))} to ${text || 'nothing'}`, () =>
      assert.equal(html`${part}`.toString(), text));
  }
});

describe('a page', () => {
  it('has its style by its hash, and no other', () => {
    const page = renderPage({ title: '<t>', body: html`x` });
    assert.match(page, /<title>&#60;t&#62;<\/title>/);
    assert.doesNotMatch(page, / style=|<script/);
    assert.match(pageHeaders()['Content-Security-Policy']!, /style-src 'sha256-[^']+'/);
    assert.match(pageHeaders()['Content-Security-Policy']!, /form-action 'none'/);
  });

  it('can be copied from without a change', () => {
    const text = "postern setup --host '*.a' \\\n  x";
    const copied = command(text)
      .toString()
      .replaceAll(/<[^>]*>/g, '')
      .replaceAll(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));
    assert.equal(copied, text);
  });
});

describe('the page of one’s access', () => {
  it('shows whatever comes from outside as text', () => {
    const evil = '<img src=x onerror=alert(1)>';
    const at = 1_700_000_000_000;
    const page = accessPage({
      publicUrl: new URL('https://gw.example/ssh/'),
      token: evil,
      now: at,
      subject: evil,
      groups: [evil],
      until: at,
      hosts: [evil],
      sessions: [{ id: evil, target: evil, client: evil, since: at }],
      signIns: [{ id: evil, kind: 'device', agent: evil, remoteAddress: evil, startedAt: at, expiresAt: at }],
      signInId: 'other',
    });
    assert.doesNotMatch(page, /<img/);
  });
});

describe('explainError()', () => {
  for (const code of ['', '__proto__', 'constructor', 'toString', 'never heard of']) {
    it(`has words for ${JSON.stringify(code)}`, () =>
      assert.equal(explainError(code).title, 'Something went wrong'));
  }
});

describe('agentOf()', () => {
  const agents: readonly (readonly [text: string, name: string])[] = [
    [
      'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0 Safari/537.36',
      'Chrome on Linux',
    ],
    [
      'Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0 Safari/537.36 Edg/150.0',
      'Edge on Windows',
    ],
    [
      'Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0',
      'Firefox on macOS',
    ],
    [
      'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1 Version/18.0 Mobile Safari/604.1',
      'Safari on iOS',
    ],
    ['', 'a browser'],
    ['<script>', 'a browser'],
  ];
  for (const [text, name] of agents)
    it(`${JSON.stringify(text)} is ${name}`, () => assert.equal(agentOf(text), name));
});
