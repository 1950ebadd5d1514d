import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chooseEgress, proxyFor } from '../../../client/egress/choose.ts';
import type { ProxySettings } from '../../../client/egress/egress.ts';

const gateway = { host: 'gw.example', port: 443 };

const named: readonly [string, ProxySettings, string][] = [
  ['nothing', {}, 'direct'],
  ['HTTPS_PROXY', { https: 'http://p:3128' }, 'http://p:3128'],
  ['HTTPS_PROXY before ALL_PROXY', { https: 'http://p:3128', all: 'http://q:1' }, 'http://p:3128'],
  ['ALL_PROXY', { all: 'http://q:1' }, 'http://q:1'],
  ['an empty HTTPS_PROXY as no proxy', { https: '', all: 'http://q:1' }, 'direct'],
  ['NO_PROXY', { https: 'http://p:3128', except: 'example' }, 'direct'],
  ['a proxy without a scheme', { https: 'my_proxy:3128' }, 'http://my_proxy:3128'],
  ['a proxy without a port', { https: 'http://p' }, 'http://p:80'],
  ['a TLS proxy', { https: 'https://p' }, 'https://p:443'],
  ['an IPv6 proxy', { https: 'http://[::1]:3128/' }, 'http://[::1]:3128'],
];

describe('chooseEgress()', () => {
  for (const [what, proxy, name] of named) {
    it(`follows ${what}`, () => assert.equal(chooseEgress({ gateway, tls: true, proxy }).name, name));
  }

  it('goes straight to a gateway without TLS, which is on this machine', () => {
    assert.equal(
      chooseEgress({ gateway, tls: false, proxy: { https: 'http://p', all: 'http://p' } }).name,
      'direct',
    );
  });

  it('keeps the password out of the name', () => {
    assert.equal(
      chooseEgress({ gateway, tls: true, proxy: { https: 'http://u:canary@p:1' } }).name,
      'http://p:1',
    );
  });
});

describe('proxyFor()', () => {
  it('decodes user name and password', () => {
    const proxy = proxyFor(gateway, { https: 'http://m%40x:p%3A%25@p' });
    assert.deepEqual([proxy?.user, proxy?.password?.reveal()], ['m@x', 'p:%']);
  });

  for (const https of [
    'http://',
    'http://p:99999',
    'socks5://p',
    'ftp://p',
    'http://a b',
    'http://u:canary%zz@p',
  ]) {
    it(`refuses ${https}`, () => {
      assert.throws(
        () => proxyFor(gateway, { https }),
        (error: Error & { code: string }) =>
          error.code === 'CONFIG_INVALID' && !error.message.includes('canary'),
      );
    });
  }
});
