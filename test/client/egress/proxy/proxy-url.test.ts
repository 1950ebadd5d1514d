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
