import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseGsettings, readGnome } from '../../../../client/egress/system/gnome.ts';
import { parseScutil } from '../../../../client/egress/system/macos.ts';
import { isExceptedBySystem } from '../../../../client/egress/system/system-proxy.ts';
import { readSystemProxy } from '../../../../client/egress/system/settings.ts';
import type { SystemProxy } from '../../../../client/egress/system/system-proxy.ts';
import { parseInternetSettings, parseWinHttp } from '../../../../client/egress/system/windows.ts';
import { temporaryDirectory } from '../../support.ts';

const never = new AbortController().signal;

/** What `scutil --proxy` prints where these lines are set. */
const scutil = (...lines: readonly string[]): string =>
  `<dictionary> {\n${lines.map((line) => `  ${line}\n`).join('')}}\n`;
const exceptions = ['ExceptionsList : <array> {', '  0 : *.local', '  1 : 169.254/16', '}'];

describe('parseScutil()', () => {
  for (const [what, text, expected] of [
    ['nothing', scutil('FTPPassive : 1', ...exceptions), undefined],
    [
      'a manual proxy',
      scutil(
        ...exceptions,
        'ExcludeSimpleHostnames : 1',
        'FTPPassive : 1',
        'HTTPEnable : 0',
        'HTTPSEnable : 1',
        'HTTPSPort : 3128',
        'HTTPSProxy : proxy.corp.example',
      ),
      {
        source: 'macOS',
        autoDetect: false,
        proxy: 'http://proxy.corp.example:3128',
        except: ['*.local', '169.254/16'],
        exceptSimple: true,
      },
    ],
    [
      'one that is written down and off',
      scutil('HTTPSEnable : 0', 'HTTPSPort : 3128', 'HTTPSProxy : p'),
      undefined,
    ],
    [
      'SOCKS',
      scutil('SOCKSEnable : 1', 'SOCKSPort : 1080', 'SOCKSProxy : ::1'),
      {
        source: 'macOS',
        autoDetect: false,
        proxy: 'socks5h://[::1]:1080',
        except: [],
        exceptSimple: false,
      },
    ],
    [
      'a PAC file and detection',
      scutil(
        'ProxyAutoConfigEnable : 1',
        'ProxyAutoConfigURLString : http://wpad.corp.example:8080/proxy.pac',
        'ProxyAutoDiscoveryEnable : 1',
      ),
      {
        source: 'macOS',
        autoDetect: true,
        pac: 'http://wpad.corp.example:8080/proxy.pac',
        except: [],
        exceptSimple: false,
      },
    ],
    ['no text', '', undefined],
  ] as const) {
    it(`reads ${what}`, () => assert.deepEqual(parseScutil(text), expected));
  }
});

/** What `reg query` prints for the settings of a user where these are set. */
const registry = (...values: readonly string[]): string =>
  [
    '',
    'HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings',
    '    CertificateRevocation    REG_DWORD    0x1',
    ...values.map((value) => `    ${value}`),
    '',
    'HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\\5.0',
    '',
  ].join('\r\n');
const connections = (flags: string): string =>
  [
    '',
    'HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\\Connections',
    `    DefaultConnectionSettings    REG_BINARY    4600000007000000${flags}000000000000000000000000`,
    '',
  ].join('\r\n');

describe('parseInternetSettings()', () => {
  for (const [what, user, more, expected] of [
    [
      'nothing',
      registry('ProxyEnable    REG_DWORD    0x0', 'ProxyServer    REG_SZ    p:8080'),
      connections('01'),
      undefined,
    ],
    [
      'one proxy for all',
      registry(
        'ProxyEnable    REG_DWORD    0x1',
        'ProxyServer    REG_SZ    proxy.corp.example:8080',
        'ProxyOverride    REG_SZ    *.corp.example;10.*;<local>',
      ),
      connections('03'),
      {
        source: 'Windows',
        autoDetect: false,
        proxy: 'http://proxy.corp.example:8080',
        except: ['*.corp.example', '10.*', '<local>'],
        exceptSimple: false,
      },
    ],
    [
      'a proxy for each protocol',
      registry(
        'ProxyEnable    REG_DWORD    0x1',
        'ProxyServer    REG_SZ    http=a:80;https=b:3128;ftp=c:21;socks=d:1080',
      ),
      '',
      {
        source: 'Windows',
        autoDetect: false,
        proxy: 'http://b:3128',
        except: [],
        exceptSimple: false,
      },
    ],
    [
      'SOCKS only',
      registry('ProxyEnable    REG_DWORD    0x1', 'ProxyServer    REG_SZ    socks=d:1080'),
      '',
      {
        source: 'Windows',
        autoDetect: false,
        proxy: 'socks5h://d:1080',
        except: [],
        exceptSimple: false,
      },
    ],
    [
      'a proxy for http only',
      registry('ProxyEnable    REG_DWORD    0x1', 'ProxyServer    REG_SZ    http=a:80'),
      connections('03'),
      undefined,
    ],
    [
      'a PAC file',
      registry(
        'AutoConfigURL    REG_SZ    http://pac.corp.example/proxy.pac',
        'ProxyEnable    REG_DWORD    0x0',
      ),
      connections('05'),
      {
        source: 'Windows',
        autoDetect: false,
        pac: 'http://pac.corp.example/proxy.pac',
        except: [],
        exceptSimple: false,
      },
    ],
    [
      'detection',
      registry('ProxyEnable    REG_DWORD    0x0'),
      connections('09'),
      {
        source: 'Windows',
        autoDetect: true,
        except: [],
        exceptSimple: false,
      },
    ],
    ['no text', '', '', undefined],
  ] as const) {
    it(`reads ${what}`, () => assert.deepEqual(parseInternetSettings(user, more), expected));
  }
});

describe('parseWinHttp()', () => {
  const english = '\r\nCurrent WinHTTP proxy settings:\r\n\r\n';
  for (const [what, text, proxy, except] of [
    ['no proxy', `${english}    Direct access (no proxy server).\r\n\r\n`, undefined, []],
    [
      'a proxy',
      `${english}    Proxy Server(s) :  proxy.corp.example:8080\r\n    Bypass List     :  *.corp.example;<local>\r\n\r\n`,
      'http://proxy.corp.example:8080',
      ['*.corp.example', '<local>'],
    ],
    [
      'a proxy without exceptions',
      `${english}    Proxy Server(s) :  p:8080\r\n    Bypass List     :  (none)\r\n\r\n`,
      'http://p:8080',
      [],
    ],
    [
      'German',
      `\r\nAktuelle WinHTTP-Proxyeinstellungen:\r\n\r\n    Proxyserver:  http=a:80;https=b:3128\r\n    Umgehungsliste:  10.*\r\n\r\n`,
      'http://b:3128',
      ['10.*'],
    ],
    [
      'German without a proxy',
      `\r\nAktuelle WinHTTP-Proxyeinstellungen:\r\n\r\n    Direktzugriff (kein Proxyserver).\r\n\r\n`,
      undefined,
      [],
    ],
    ['no text', '', undefined, []],
  ] as const) {
    it(`reads ${what}`, () => {
      const found = parseWinHttp(text);
      assert.deepEqual([found?.proxy, found?.except ?? []], [proxy, except]);
    });
  }
});

/** What `gsettings list-recursively org.gnome.system.proxy` prints, with these changes. */
function gsettings(changes: Readonly<Record<string, string>> = {}): string {
  const values: Readonly<Record<string, string>> = {
    ' autoconfig-url': "''",
    ' ignore-hosts': "['localhost', '127.0.0.0/8', '::1']",
    ' mode': "'none'",
    ' use-same-proxy': 'true',
    '.ftp host': "''",
    '.ftp port': '0',
    '.http authentication-password': "''",
    '.http authentication-user': "''",
    '.http enabled': 'false',
    '.http host': "''",
    '.http port': '8080',
    '.http use-authentication': 'false',
    '.https host': "''",
    '.https port': '0',
    '.socks host': "''",
    '.socks port': '0',
    ...changes,
  };
  return Object.entries(values)
    .map(([key, value]) => `org.gnome.system.proxy${key} ${value}\n`)
    .join('');
}
const usual = ['localhost', '127.0.0.0/8', '::1'];

describe('parseGsettings()', () => {
  for (const [what, text, expected] of [
    ['nothing', gsettings(), undefined],
    [
      'a manual proxy',
      gsettings({ ' mode': "'manual'", '.https host': "'p.example'", '.https port': '3128' }),
      {
        source: 'GNOME',
        autoDetect: false,
        proxy: 'http://p.example:3128',
        except: usual,
        exceptSimple: false,
      },
    ],
    [
      'one that is written down and off',
      gsettings({ '.https host': "'p'", '.https port': '3128' }),
      undefined,
    ],
    [
      'SOCKS',
      gsettings({
        ' mode': "'manual'",
        '.socks host': "'p'",
        '.socks port': '1080',
        ' ignore-hosts': '@as []',
      }),
      {
        source: 'GNOME',
        autoDetect: false,
        proxy: 'socks5h://p:1080',
        except: [],
        exceptSimple: false,
      },
    ],
    [
      'a PAC file',
      gsettings({ ' mode': "'auto'", ' autoconfig-url': `"http://pac.example/it's.pac"` }),
      {
        source: 'GNOME',
        autoDetect: false,
        pac: "http://pac.example/it's.pac",
        except: usual,
        exceptSimple: false,
      },
    ],
    [
      'detection',
      gsettings({ ' mode': "'auto'" }),
      {
        source: 'GNOME',
        autoDetect: true,
        except: usual,
        exceptSimple: false,
      },
    ],
    ['no text', '', undefined],
  ] as const) {
    it(`reads ${what}`, () => assert.deepEqual(parseGsettings(text), expected));
  }
});

const hasGsettings =
  spawnSync('gsettings', ['list-keys', 'org.gnome.system.proxy'], { stdio: 'ignore' }).status === 0;

describe('readGnome()', { skip: !hasGsettings && 'this machine lacks gsettings or its schemas' }, () => {
  it('reads what the real program prints', async (t) => {
    const home = temporaryDirectory(t);
    mkdirSync(join(home, 'glib-2.0/settings'), { recursive: true });
    writeFileSync(
      join(home, 'glib-2.0/settings/keyfile'),
      `[system/proxy]
mode='manual'
ignore-hosts=['*.corp.example', "it's"]
[system/proxy/https]
host='p.example'
port=3128
`,
    );
    const env = { PATH: process.env['PATH'], XDG_CONFIG_HOME: home, GSETTINGS_BACKEND: 'keyfile' };
    const found = await readGnome(async ([program, ...args]) => {
      const { stdout } = spawnSync(program, args, { env, encoding: 'utf8' });
      return stdout;
    }, never);
    assert.deepEqual(found, {
      source: 'GNOME',
      autoDetect: false,
      proxy: 'http://p.example:3128',
      except: ['*.corp.example', "it's"],
      exceptSimple: false,
    });
  });
});

describe('readSystemProxy()', () => {
  for (const platform of ['darwin', 'win32', 'linux'] as const) {
    it(`says nothing where ${platform} has none of its programs`, async () => {
      assert.equal(await readSystemProxy({ platform }, never, async () => undefined), undefined);
    });
  }

  it('asks for what the user has set before what the machine has', async () => {
    const asked: string[] = [];
    const found = await readSystemProxy({ platform: 'win32' }, never, async ([program]) => {
      asked.push(program);
      return program === 'reg' ? registry() : '  Proxy Server(s) :  p:8080\r\n';
    });
    assert.deepEqual([found?.proxy, asked], ['http://p:8080', ['reg', 'reg', 'netsh']]);
  });
});

describe('isExceptedBySystem()', () => {
  const cases: readonly [source: SystemProxy['source'], rule: string, host: string, expected: boolean][] = [
    ['Windows', '*.corp.example', 'gw.corp.example', true],
    ['Windows', '*.corp.example', 'corp.example', false],
    ['Windows', 'corp.example', 'gw.corp.example', false],
    ['Windows', 'corp.example', 'corp.example', true],
    ['Windows', 'GW.Example', 'gw.example', true],
    ['Windows', '10.*', '10.1.2.3', true],
    ['Windows', '10.*', '110.1.2.3', false],
    ['Windows', '10.*.3', '10.1.2.3', true],
    ['Windows', '*', 'gw.example', true],
    ['Windows', 'g*.e*e', 'gw.example', true],
    ['Windows', 'gw*w.example', 'gw.example', false],
    ['Windows', 'https://gw.example', 'gw.example', true],
    ['Windows', 'gw.example:443', 'gw.example', true],
    ['Windows', 'gw.example:80', 'gw.example', false],
    ['Windows', '<local>', 'gw', true],
    ['Windows', '<local>', 'gw.example', false],
    ['Windows', '', 'gw.example', false],
    ['macOS', '169.254/16', '169.254.3.4', true],
    ['macOS', '169.254/16', '169.255.3.4', false],
    ['macOS', '10/8', '10.2.3.4', true],
    ['macOS', '.corp.example', 'gw.corp.example', true],
    ['GNOME', '127.0.0.0/8', '127.1.2.3', true],
    ['GNOME', '::1', '::1', true],
    ['GNOME', 'corp.example', 'gw.corp.example', true],
    ['GNOME', '.corp.example', 'gw.corp.example', true],
    ['GNOME', '*.corp.example', 'gw.corp.example', true],
    ['GNOME', 'corp.example', 'evilcorp.example', false],
  ];
  for (const [source, rule, host, expected] of cases) {
    it(`of ${source}: ${JSON.stringify(rule)} ${expected ? 'covers' : 'does not cover'} ${host}`, () => {
      const said = { source, autoDetect: false, except: [rule], exceptSimple: false };
      assert.equal(isExceptedBySystem(said, { host, port: 443 }), expected);
    });
  }

  it('covers names without a dot where that is set', () => {
    const said = { source: 'macOS', autoDetect: false, except: [], exceptSimple: true } as const;
    assert.ok(isExceptedBySystem(said, { host: 'gw', port: 443 }));
    assert.ok(!isExceptedBySystem(said, { host: 'gw.example', port: 443 }));
    assert.ok(!isExceptedBySystem(said, { host: '::1', port: 443 }));
  });
});
