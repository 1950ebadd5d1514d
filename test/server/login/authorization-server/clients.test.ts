import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { isLoopbackRedirect } from '../../../../server/login/authorization-server/clients.ts';
import { Browser, begin, startTestGateway } from '../support.ts';
import type { TestGateway } from '../support.ts';

const hosts = [
  '127.0.0.1',
  '[::1]',
  'localhost',
  'LOCALHOST',
  'localhost.',
  '127.0.0.1.',
  '127.0.0.2',
  '127.1',
  '127.0.1',
  '0177.0.0.1',
  '0x7f.0.0.1',
  '0x7f000001',
  '2130706433',
  '017700000001',
  '127.0.0.1%00',
  '127.0.0.1%2eevil.example',
  '127.0.0.1.evil.example',
  '127.0.0.1-evil.example',
  'evil.example',
  'evil.example#@127.0.0.1',
  'evil.example?@127.0.0.1',
  'evil.example/@127.0.0.1',
  'evil.example\\@127.0.0.1',
  '127.0.0.1@evil.example',
  'user:pass@127.0.0.1',
  '@127.0.0.1',
  '127\u30020\u30020\u30021',
  '\uff11\uff12\uff17.0.0.1',
  '\u2488\u2482.0.0.1',
  '0',
  '0.0.0.0',
  '[::]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[0:0:0:0:0:0:0:1]',
  '[::1%25lo]',
  '[::1].evil.example',
  '::1',
  '',
];
const schemes = [
  'http://',
  'https://',
  'HTTP://',
  'http:',
  'http:/',
  'http:///',
  'http:\\\\',
  '//',
  '\\\\',
  'ftp://',
  'ws://',
  'view-source:http://',
  'javascript://',
];
const ports = [':1234', '', ':', ':0', ':01234', ':65536', ':1234:80', ':12 34', ':-1', ':1e3', ':\uff11'];
const paths = [
  '/abc',
  '/',
  '',
  '/a/b',
  '//evil.example',
  '/\\evil.example',
  '/..',
  '/.',
  '/%2e%2e/x',
  '/%2f%2fevil.example',
  '/a%00',
  '/a\t',
  '/a\r\nLocation: https://evil.example',
  '/a b',
  '/a;b',
  '/a@b',
  '/a?',
  '/a?next=https://evil.example',
  '/a#',
  '/a#b',
  '/\u202ea',
  '/\u00e4',
  `/${'x'.repeat(129)}`,
];

/** Every part that is not the plain one, with the others plain; and every pair of scheme and host. */
const spellings = new Set([
  ...hosts.flatMap((host) => schemes.map((scheme) => `${scheme}${host}:1234/abc`)),
  ...hosts.flatMap((host) => ports.map((port) => `http://${host}${port}/abc`)),
  ...paths.flatMap((path) => ['127.0.0.1', '[::1]'].map((host) => `http://${host}:1234${path}`)),
  ...[' ', '\t', '\n', '\u0000', '\ufeff', '\u200b'].flatMap((odd) => [
    `${odd}http://127.0.0.1:1234/abc`,
    `http://127.0.0.1:1234/abc${odd}`,
    `ht${odd}tp://127.0.0.1:1234/abc`,
    `http://127.0.0.1${odd}:1234/abc`,
  ]),
  'javascript:alert(1)',
  'data:text/html,x',
  'blob:http://127.0.0.1:1234/abc',
  'about:blank',
  'postern:/x',
]);

/** The few that are right; written down here, not reckoned. */
const right = new Set([
  'http://127.0.0.1:1234/abc',
  'http://[::1]:1234/abc',
  'http://127.0.0.1:1234/',
  'http://[::1]:1234/',
]);

describe('a redirect URI of the client program', () => {
  it(`is one spelling of the person's own machine, of ${spellings.size} that look like it`, () => {
    assert.ok(spellings.size > 700, String(spellings.size));
    assert.deepEqual([...spellings].filter(isLoopbackRedirect).toSorted(), [...right].toSorted());
  });

  it('reads the same for every reader', () => {
    for (const uri of right) {
      const url = new URL(uri);
      assert.equal(url.href, uri);
      assert.ok(['127.0.0.1', '[::1]'].includes(url.hostname));
    }
  });

  describe('as the gateway answers', () => {
    let gateway: TestGateway;
    // Each asks from a network of its own: of one network, only so many a minute are remembered.
    before(async () => (gateway = await startTestGateway({ trustedProxies: ['127.0.0.0/8'] })));
    after(() => gateway.close());

    it('is the same, and everything else gets a page and no redirect', async () => {
      let next = 0;
      const all = [...spellings];
      const wrong: string[] = [];
      const worker = async (): Promise<void> => {
        for (let at = next++; at < all.length; at = next++) {
          const uri = all[at]!;
          const browser = new Browser();
          browser.headers['x-forwarded-for'] = `192.0.2.${at % 250}`;
          const { status, location } = await browser.get(begin(gateway.url, { redirect_uri: uri }).url);
          const isRight = right.has(uri)
            ? status === 303 && location?.startsWith(`${gateway.url}sign-in/`)
            : status === 400 && location === undefined;
          if (!isRight) wrong.push(`${JSON.stringify(uri)}: ${status} ${location}`);
        }
      };
      await Promise.all(Array.from({ length: 8 }, worker));
      assert.deepEqual(wrong, []);
    });
  });
});
