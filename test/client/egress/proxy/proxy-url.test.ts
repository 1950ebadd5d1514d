import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseProxy, hopName } from '../../../../client/egress/proxy/proxy-url.ts';

const named: readonly [text: string, name: string][] = [
  ['http://p:3128', 'http://p:3128'],
  ['my_proxy:3128', 'http://my_proxy:3128'],
  ['P.Example', 'http://p.example:80'],
  ['http://p:80/', 'http://p:80'],
  ['https://p', 'https://p:443'],
  ['http://[::1]:3128/', 'http://[::1]:3128'],
  ['HTTP://p', 'http://p:80'],
  ['socks4://p', 'socks4://p:1080'],
  ['socks4a://p:80', 'socks4a://p:80'],
  ['socks5://P', 'socks5://p:1080'],
  ['socks5h://[::1]:1', 'socks5h://[::1]:1'],
  ['socks://p:9050/', 'socks5h://p:9050'],
  ['socks5://u:canary@p', 'socks5://p:1080'],
  ['http://p:3128/path?query#fragment', 'http://p:3128'],
  ['http://p:', 'http://p:80'],
  ['http://b\u00fccher.example', 'http://xn--bcher-kva.example:80'],
  ['http://0x7f.1:9', 'http://127.0.0.1:9'],
];

describe('parseProxy()', () => {
  for (const [text, name] of named) {
    it(`reads ${text}`, () => {
      assert.equal(hopName(parseProxy(text, 'here')), name);
      assert.equal(hopName(parseProxy(name, 'here')), name);
    });
  }

  for (const scheme of ['http', 'https', 'socks5', 'socks5h']) {
    it(`decodes user name and password of ${scheme}`, () => {
      const { user, password } = parseProxy(`${scheme}://m%40x:p%3A%25@p`, 'here');
      assert.deepEqual([user, password?.reveal()], ['m@x', 'p:%']);
    });
  }

  for (const [text, user, password] of [
    [String.raw`http://CORP\al:pw@127.0.0.1:9`, String.raw`CORP\al`, 'pw'],
    [String.raw`CORP\al:pw@127.0.0.1:9`, String.raw`CORP\al`, 'pw'],
    [String.raw`http://CORP%5Cal:pw@127.0.0.1:9`, String.raw`CORP\al`, 'pw'],
    ['http://al:p/w@127.0.0.1:9', 'al', 'p/w'],
    ['http://al:p?w@127.0.0.1:9', 'al', 'p?w'],
    ['http://al:p#w@127.0.0.1:9', 'al', 'p#w'],
    ['http://al:p@w@127.0.0.1:9', 'al', 'p@w'],
    ['http://al:p:w@127.0.0.1:9', 'al', 'p:w'],
    ['http://al:p w@127.0.0.1:9', 'al', 'p w'],
    ['http://al:1/2#3@127.0.0.1:9', 'al', '1/2#3'],
    ['http://al@corp.example:pw@127.0.0.1:9', 'al@corp.example', 'pw'],
    ['http://:pw@127.0.0.1:9', '', 'pw'],
    ['http://al@127.0.0.1:9', 'al', ''],
    ['http://al:p\u00e4@127.0.0.1:9', 'al', 'p\u00e4'],
  ] as const) {
    it(`reads the user of ${text}, and no host before the last @`, () => {
      const proxy = parseProxy(text, 'here');
      assert.deepEqual(proxy.address, { host: '127.0.0.1', port: 9 });
      assert.deepEqual([proxy.user, proxy.password?.reveal()], [user, password]);
    });
  }

  it('knows no user where there is none', () => {
    assert.equal('user' in parseProxy('http://p', 'here'), false);
  });

  for (const text of [
    'http://',
    'http://p:99999',
    'socks5://',
    'socks5://p:99999',
    'socks5://a b',
    'socks5://a%00b',
    'socks6://p',
    'ftp://p',
    'http://a b',
    'http://u:canary%zz@p',
    'socks5h://u:canary%zz@p',
    'http://u:canary@',
    'http://u:canary@:3128',
    'http://u:canary@a\\b:3128',
    'http:p:3128',
    '//p:3128',
    'http://p:0',
    'http://p:31 28',
    'http://p\t:3128',
    'http://[::1',
    'http://[1.2.3.4]:1',
    'http://a%00b',
  ]) {
    it(`refuses ${text}`, () => {
      assert.throws(
        () => parseProxy(text, 'here'),
        (error: Error & { code: string }) =>
          error.code === 'CONFIG_INVALID' && !error.message.includes('canary'),
      );
    });
  }
});
