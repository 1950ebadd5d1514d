import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { browserCommand } from '../../../client/login/open-browser.ts';

const url = new URL('https://gw.example/ssh/oauth/auth?a=1&b=%20$(x)');

describe('browserCommand()', () => {
  for (const [what, settings, platform, expected] of [
    ['BROWSER', { command: 'firefox', hasDisplay: false }, 'linux', ['firefox', url.href]],
    [
      'BROWSER with %s',
      { command: 'w3m  -o x=%s -q', hasDisplay: false },
      'linux',
      ['w3m', '-o', `x=${url.href}`, '-q'],
    ],
    ['the first of several', { command: ':links:w3m', hasDisplay: true }, 'linux', ['links', url.href]],
    ['an empty BROWSER', { command: ' ', hasDisplay: true }, 'linux', undefined],
    ['a desktop', { hasDisplay: true }, 'linux', ['xdg-open', url.href]],
    ['no desktop', { hasDisplay: false }, 'linux', undefined],
    ['macOS', { hasDisplay: false }, 'darwin', ['/usr/bin/open', url.href]],
  ] as const) {
    it(`opens the URL as one word with ${what}`, () => {
      assert.deepEqual(browserCommand(url, settings, platform), expected);
    });
  }

  it('starts no shell on Windows', () => {
    const [program, ...args] = browserCommand(url, { hasDisplay: false, systemRoot: 'C:\\W' }, 'win32')!;
    assert.match(program, /rundll32\.exe$/);
    assert.deepEqual(args, ['url.dll,FileProtocolHandler', url.href]);
  });
});
