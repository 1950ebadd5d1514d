import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chooseEgress } from '../../../client/egress/choose.ts';
import { planRoute, routeFromEnvironment } from '../../../client/egress/route/environment.ts';
import type { ProxySettings, SystemHints } from '../../../client/egress/egress.ts';
import { hopName } from '../../../client/egress/proxy/proxy-url.ts';

const gateway = { host: 'gw.example', port: 443 };
const gnome: SystemHints = { platform: 'linux', desktop: 'ubuntu:GNOME' };
const byEnvironment = { location: '/proxy.pac', from: 'POSTERN_PAC' } as const;
const byFile = { location: '/proxy.pac', from: 'config.json' } as const;

const said: readonly [what: string, proxy: ProxySettings, source: string, steps: string][] = [
  ['nothing', {}, 'nothing', 'direct'],
  ['HTTPS_PROXY', { https: 'http://p:3128' }, 'HTTPS_PROXY', 'http://p:3128'],
  [
    'HTTPS_PROXY before ALL_PROXY',
    { https: 'http://p:3128', all: 'http://q:1' },
    'HTTPS_PROXY',
    'http://p:3128',
  ],
  ['ALL_PROXY', { all: 'http://q:1' }, 'ALL_PROXY', 'http://q:1'],
  ['an empty HTTPS_PROXY as no proxy', { https: '', all: 'http://q:1' }, 'HTTPS_PROXY', 'direct'],
  ['an empty ALL_PROXY as no proxy', { all: ' ', http: 'http://q:1', system: gnome }, 'ALL_PROXY', 'direct'],
  ['NO_PROXY', { https: 'http://p:3128', except: 'example' }, 'NO_PROXY', 'direct'],
  ['NO_PROXY before a PAC file', { pac: byEnvironment, except: '*' }, 'NO_PROXY', 'direct'],
  ['NO_PROXY before the system', { system: gnome, except: '.example' }, 'NO_PROXY', 'direct'],
  ['HTTPS_PROXY before config.json', { https: 'http://p', pac: byFile }, 'HTTPS_PROXY', 'http://p:80'],
  ['HTTPS_PROXY before the system', { https: 'http://p', system: gnome }, 'HTTPS_PROXY', 'http://p:80'],
  ['HTTP_PROXY at last, and then no proxy', { http: 'p:1' }, 'HTTP_PROXY', 'http://p:1 direct'],
  ['ALL_PROXY before HTTP_PROXY', { http: 'p:1', all: 'socks5://q' }, 'ALL_PROXY', 'socks5://q:1080'],
];

describe('routeFromEnvironment()', () => {
  for (const [what, proxy, source, steps] of said) {
    it(`follows ${what}`, () => {
      const verdict = routeFromEnvironment({ gateway, tls: true, proxy });
      assert.deepEqual([verdict?.source, verdict?.hops.map(hopName).join(' ')], [source, steps]);
    });
  }

  for (const [what, proxy] of [
    ['POSTERN_PAC before HTTPS_PROXY', { https: 'http://p', pac: byEnvironment }],
    ['the PAC file of config.json before the system', { pac: byFile, system: gnome }],
    ['GNOME', { system: gnome }],
    ['GNOME before HTTP_PROXY', { system: gnome, http: 'http://p' }],
    ['macOS', { system: { platform: 'darwin' } }],
    ['Windows', { system: { platform: 'win32' } }],
  ] as const) {
    it(`has to ask ${what}`, () =>
      assert.equal(routeFromEnvironment({ gateway, tls: true, proxy }), undefined));
  }

  for (const host of ['localhost', '127.0.0.1', '::1']) {
    it(`asks no system about ${host}`, () => {
      const verdict = routeFromEnvironment({
        gateway: { host, port: 443 },
        tls: true,
        proxy: { system: gnome },
      });
      assert.deepEqual(verdict?.hops, ['direct']);
    });
  }

  it('asks no desktop where there is none', () => {
    const proxy = { system: { platform: 'linux' } } as const;
    assert.deepEqual(routeFromEnvironment({ gateway, tls: true, proxy })?.hops, ['direct']);
  });
});

describe('chooseEgress()', () => {
  it('goes straight to a gateway without TLS, which is on this machine', () => {
    assert.equal(
      chooseEgress(planRoute({ gateway, tls: false, proxy: { https: 'http://p', all: 'http://p' } })).name,
      'direct',
    );
  });

  it('keeps the password out of the name', () => {
    assert.equal(
      chooseEgress(planRoute({ gateway, tls: true, proxy: { https: 'http://u:canary@p:1' } })).name,
      'http://p:1',
    );
  });

  it('refuses a proxy that cannot be used before anything is asked', () => {
    assert.throws(() => chooseEgress(planRoute({ gateway, tls: true, proxy: { https: 'ftp://p' } })), {
      code: 'CONFIG_INVALID',
    });
  });
});
