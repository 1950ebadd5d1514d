import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { inspect } from 'node:util';
import { parseGateway } from '../../client/http/gateway-url.ts';
import { readSettings } from '../../client/settings.ts';
import { userPaths } from '../../client/os/xdg-paths.ts';
import { temporaryDirectory } from './support.ts';

function homeWith(t: TestContext, config: string, mode = 0o600): { HOME: string } {
  const home = temporaryDirectory(t);
  mkdirSync(join(home, '.config', 'postern'), { recursive: true });
  const path = join(home, '.config', 'postern', 'config.json');
  writeFileSync(path, config);
  chmodSync(path, mode);
  return { HOME: home };
}

describe('parseGateway()', () => {
  for (const [text, href] of [
    ['https://gw.example', 'https://gw.example/'],
    ['https://gw.example/ssh', 'https://gw.example/ssh/'],
    ['https://GW.example:443/ssh/', 'https://gw.example/ssh/'],
    ['http://127.0.0.1:8022/ssh/', 'http://127.0.0.1:8022/ssh/'],
    ['http://localhost:8022/', 'http://localhost:8022/'],
    ['http://[::1]:8022/', 'http://[::1]:8022/'],
  ] as const) {
    it(`reads ${text}`, () => assert.equal(parseGateway(text).href, href));
  }

  for (const text of [
    '',
    'gw.example',
    'http://gw.example/',
    'http://127.0.0.1.example/',
    'http://10.0.0.1/',
    'ws://127.0.0.1/',
    'file:///etc/passwd',
    'https://user:password@gw.example/',
    'https://gw.example/?a=b',
    'https://gw.example/#a',
    '-x',
  ]) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseGateway(text), { code: 'CONFIG_INVALID' });
    });
  }
});

describe('readSettings()', () => {
  it('takes flags before environment before file', (t) => {
    const env = homeWith(t, '{"gateway":"https://file.example/"}');
    const set = { ...env, POSTERN_GATEWAY: 'https://env.example/' };
    assert.equal(readSettings({}, env).gateway.host, 'file.example');
    assert.equal(readSettings({}, set).gateway.host, 'env.example');
    assert.equal(readSettings({ gateway: 'https://flag.example' }, set).gateway.host, 'flag.example');
  });

  it('says when no gateway is set', (t) => {
    assert.throws(() => readSettings({}, { HOME: temporaryDirectory(t) }), { code: 'GATEWAY_UNSET' });
    assert.throws(() => readSettings({}, { HOME: temporaryDirectory(t), POSTERN_GATEWAY: '' }), {
      code: 'GATEWAY_UNSET',
    });
  });

  it('refuses an entry it does not know', (t) => {
    const env = { HOME: temporaryDirectory(t), POSTERN_GATEWAY: 'https://gw.example/' };
    assert.throws(() => readSettings({ via: 'carrier-pigeon' }, env), { code: 'USAGE' });
    assert.equal(readSettings({ via: 'connect-tcp' }, env).via, 'connect-tcp');
  });

  for (const config of [
    '',
    'null',
    '[]',
    '"x"',
    '{',
    '{}',
    '{"gateway":1}',
    '{"gateway":"https://gw.example/","caFile":1}',
    '{"gateway":"https://gw.example/","hosts":"x"}',
    '{"gateway":"https://gw.example/","gatway":"x"}',
    '{"gateway":"http://gw.example/"}',
  ]) {
    it(`refuses the file ${JSON.stringify(config)}`, (t) => {
      assert.throws(() => readSettings({}, homeWith(t, config)), { code: 'CONFIG_INVALID' });
    });
  }

  it('refuses a file that others can change', (t) => {
    const env = homeWith(t, '{"gateway":"https://gw.example/"}', 0o666);
    assert.throws(() => readSettings({}, env), { code: 'CONFIG_INVALID' });
  });

  it('prefers lower-case proxy variables, also empty ones', (t) => {
    const env = { HOME: temporaryDirectory(t), POSTERN_GATEWAY: 'https://gw.example/' };
    const {
      system,
      signIn: _,
      ...proxy
    } = readSettings(
      {},
      {
        ...env,
        https_proxy: '',
        HTTPS_PROXY: 'http://p',
        NO_PROXY: 'a',
        no_proxy: 'b',
        HTTP_PROXY: 'c',
        ALL_PROXY: 'd',
      },
    ).proxy;
    assert.deepEqual(proxy, { https: '', except: 'b', http: 'c', all: 'd' });
    assert.equal(system?.platform, process.platform);
  });

  it('takes the sign-in for a proxy from the environment, and never shows its password', (t) => {
    const env = { HOME: temporaryDirectory(t), POSTERN_GATEWAY: 'https://gw.example/' };
    const said = { POSTERN_PROXY_USER: String.raw`CORP\alice`, POSTERN_PROXY_PASSWORD: 'canary' };
    const settings = readSettings({}, { ...env, ...said });
    const { signIn } = settings.proxy;
    assert.deepEqual([signIn?.user, signIn?.password?.reveal()], [String.raw`CORP\alice`, 'canary']);
    assert.ok(
      !JSON.stringify(settings).includes('canary') && !inspect(settings, { depth: 9 }).includes('canary'),
    );
    assert.equal(signIn?.isPromptAllowed, true);
    for (const nobody of [{ CI: 'true' }, { POSTERN_NO_INPUT: '1' }])
      assert.equal(readSettings({}, { ...env, ...nobody }).proxy.signIn?.isPromptAllowed, false);
  });

  it('takes a PAC file from POSTERN_PAC, else from the file', (t) => {
    const env = homeWith(t, '{"gateway":"https://gw.example/","pac":"/a.pac"}');
    assert.deepEqual(readSettings({}, env).proxy.pac, { location: '/a.pac', from: 'config.json' });
    const { pac } = readSettings({}, { ...env, POSTERN_PAC: '/b.pac' }).proxy;
    assert.deepEqual(pac, { location: '/b.pac', from: 'POSTERN_PAC' });
  });

  for (const [what, config, variable, isAsked] of [
    ['by default', '', undefined, true],
    ['unless POSTERN_SYSTEM_PROXY is 0', '', '0', false],
    ['unless the file says no', ',"systemProxy":false', undefined, false],
    ['when POSTERN_SYSTEM_PROXY is 1, whatever the file says', ',"systemProxy":false', '1', true],
  ] as const) {
    it(`asks the system for its proxy ${what}`, (t) => {
      const env = homeWith(t, `{"gateway":"https://gw.example/"${config}}`);
      const { proxy } = readSettings({}, { ...env, POSTERN_SYSTEM_PROXY: variable });
      assert.equal(proxy.system !== undefined, isAsked);
    });
  }

  it('never shows a token from the environment', (t) => {
    const env = {
      HOME: temporaryDirectory(t),
      POSTERN_GATEWAY: 'https://gw.example/',
      POSTERN_TOKEN: 'canary',
    };
    assert.ok(!JSON.stringify(readSettings({}, env)).includes('canary'));
  });
});

describe('userPaths()', () => {
  it('ignores directories that are not absolute, so that nothing is read from the current one', () => {
    const here = userPaths({ HOME: '/home/u', XDG_CONFIG_HOME: 'config', XDG_STATE_HOME: '.' });
    assert.equal(here.config, '/home/u/.config/postern');
    assert.equal(here.state, '/home/u/.local/state/postern');
  });

  it('follows the XDG variables', () => {
    const here = userPaths({ HOME: '/home/u', XDG_CONFIG_HOME: '/c', XDG_STATE_HOME: '/s' });
    assert.deepEqual([here.config, here.state], ['/c/postern', '/s/postern']);
  });

  it(
    'are nowhere for a user whom the system does not know, as in a container',
    { skip: process.getuid?.() === 0 ? false : 'only root can become somebody else' },
    () => {
      const module = JSON.stringify(join(import.meta.dirname, '../../client/os/xdg-paths.ts'));
      const script = `import { userPaths } from ${module};
        process.setgid(54321);
        process.setuid(54321);
        process.stdout.write(userPaths({}).home);`;
      const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
      const { stdout, stderr } = spawnSync(process.execPath, flags, { env: {}, encoding: 'utf8' });
      assert.deepEqual([stdout, stderr], ['/dev/null', '']);
    },
  );
});
