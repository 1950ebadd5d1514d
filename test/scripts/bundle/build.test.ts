import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { help } from '../../../client/commands/help.ts';
import { entryNames } from '../../../protocol/entries.ts';
import { startEcho, startParts } from '../../server/support/gateway-parts.ts';
import { startFaultProxy } from '../../support/fault-proxy.ts';
import { authority, certificate, key } from '../../client/certificates.ts';
import { gatewayDouble } from '../../client/entry/gateway-double.ts';
import {
  answering,
  closedPort,
  listen,
  readAll,
  temporaryDirectory,
  unsignedToken,
} from '../../client/support.ts';

const root = join(import.meta.dirname, '../../..');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The Node that runs the tests, and a Node 20 where there is one: `POSTERN_NODE20`, or the first of the PATH. */
function nodes(): readonly (readonly [name: string, path: string])[] {
  const candidate = process.env['POSTERN_NODE20'] ?? 'node';
  const { stdout } = spawnSync(candidate, ['--version'], { encoding: 'utf8' });
  return [
    ['this Node', process.execPath],
    ...(stdout?.startsWith('v20.') ? [['Node 20', candidate] as const] : []),
  ];
}

let bundle: string;

before((t) => {
  bundle = join(temporaryDirectory(t as TestContext), 'postern.cjs');
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts/bundle/build.mjs'), bundle], {
    encoding: 'utf8',
  });
  assert.deepEqual([status, stderr], [0, '']);
});

describe('the bundle', () => {
  it('is one file that can be started and one for PAC files, and knows nothing of where it was built', () => {
    const text = readFileSync(bundle, 'utf8');
    assert.ok(text.startsWith('#!/usr/bin/env node\n'));
    assert.equal(statSync(bundle).mode & 0o777, 0o755);
    assert.ok(!text.includes(root));
    assert.deepEqual(readdirSync(join(bundle, '..')).toSorted(), ['postern-pac.cjs', 'postern.cjs']);
  });
});

for (const [name, node] of nodes()) {
  /** Runs the bundle in an empty home, in a directory that tries to be read. */
  async function postern(t: TestContext, env: Record<string, string>, ...args: string[]): Promise<Finished> {
    const cwd = temporaryDirectory(t);
    mkdirSync(join(cwd, 'postern'));
    for (const file of [
      '.env',
      'config.json',
      'postern/config.json',
      'postern/sign-in.json',
      'package.json',
    ]) {
      writeFileSync(join(cwd, file), '{"gateway":"https://evil.example/","token":"evil"}');
    }
    const child = spawn(node, [bundle, ...args], {
      cwd,
      env: { HOME: temporaryDirectory(t), XDG_CONFIG_HOME: '.', XDG_STATE_HOME: '.', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.after(() => child.kill('SIGKILL'));
    const outputs = Promise.all([readAll(child.stdout), readAll(child.stderr)]);
    const [status] = (await once(child, 'exit')) as [number | null];
    const [stdout, stderr] = (await outputs).map(String);
    return { status, stdout: stdout!, stderr: stderr! };
  }

  describe(`the bundle on ${name}`, () => {
    it('tells its version', async (t) => {
      assert.deepEqual(await postern(t, {}, '--version'), {
        status: 0,
        stdout: `postern ${version}\n`,
        stderr: '',
      });
    });

    const topics = Object.keys(help).filter((topic) => topic !== '');
    const questions = [['--help'], ['help'], ['setup', '-h'], ['help', 'status']];
    for (const args of [...questions, ...topics.map((topic) => [topic, '--help'])]) {
      it(`helps with ${args.join(' ')}: an example first, within 80 columns`, async (t) => {
        const { status, stdout, stderr } = await postern(t, {}, ...args);
        assert.deepEqual([status, stderr], [0, '']);
        assert.match(stdout.split('\n')[0]!, /^(?:ssh|postern) .*/);
        assert.ok(stdout.split('\n').every((line) => line.length <= 90));
      });
    }

    const token = { POSTERN_TOKEN: 't0ken' };
    const gateway = { POSTERN_GATEWAY: 'https://gw.example/', ...token };
    for (const [what, env, args, status, code] of [
      ['no command', {}, [], 2, ''],
      ['an unknown command', {}, ['frob'], 2, 'USAGE'],
      ['an unknown help topic', {}, ['help', 'frob'], 2, 'USAGE'],
      ['an unknown option', {}, ['--frob'], 2, 'USAGE'],
      ['an unknown option of status', {}, ['status', '--frob'], 2, 'USAGE'],
      ['an unknown option of connect', gateway, ['connect', '--frob', 'box'], 2, 'USAGE'],
      ['a host that is an option', gateway, ['connect', '--', '-oProxyCommand=x', '22'], 2, 'TARGET_INVALID'],
      ['a host with a shell in it', gateway, ['connect', 'a$(x)', '22'], 2, 'TARGET_INVALID'],
      ['a host that hides an address', gateway, ['connect', '0x7f.1', '22'], 2, 'TARGET_INVALID'],
      ['a bad port', gateway, ['connect', 'box', '0'], 2, 'TARGET_INVALID'],
      ['no gateway, whatever the directory holds', token, ['connect', 'box'], 78, 'GATEWAY_UNSET'],
      [
        'no token, whatever the directory holds',
        { POSTERN_GATEWAY: 'https://evil.example/' },
        ['connect', 'box'],
        77,
        'TOKEN_MISSING',
      ],
      [
        'a gateway in the clear',
        { ...gateway, POSTERN_GATEWAY: 'http://gw.example/' },
        ['connect', 'box'],
        78,
        'CONFIG_INVALID',
      ],
      [
        'a proxy of another kind',
        { ...gateway, https_proxy: 'ftp://p' },
        ['connect', 'box'],
        78,
        'CONFIG_INVALID',
      ],
    ] as const) {
      it(`exits ${status} at ${what}`, async (t) => {
        const done = await postern(t, env, ...args);
        assert.deepEqual([done.status, done.stdout], [status, '']);
        assert.ok(done.stderr.includes(code));
        if (code) assert.ok(done.stderr.trimEnd().split('\n').length <= 2);
      });
    }

    it('exits 77 at an expired token, once the gateway has refused it', async (t) => {
      const body = JSON.stringify({ code: 'TOKEN_INVALID', title: 'no', requestId: 'r1' });
      const server = answering(
        `HTTP/1.1 401 No\r\nContent-Type: application/problem+json\r\nContent-Length: ${body.length}\r\nDate: ${new Date().toUTCString()}\r\n\r\n${body}`,
      );
      const POSTERN_GATEWAY = `http://127.0.0.1:${await listen(t, server)}/`;
      const env = { POSTERN_GATEWAY, POSTERN_TOKEN: unsignedToken({ exp: 1 }) };
      const { status, stderr } = await postern(t, env, 'connect', 'box');
      assert.equal(status, 77);
      assert.match(stderr, /expired at 1970-01-01T00:00:01\.000Z, request r1 \(TOKEN_INVALID\)/);
    });

    it('exits 69 when nothing listens', async (t) => {
      const POSTERN_GATEWAY = `http://127.0.0.1:${await closedPort()}/`;
      const { status, stderr } = await postern(t, { ...token, POSTERN_GATEWAY }, 'connect', 'box');
      assert.equal(status, 69);
      assert.match(stderr, /\(GATEWAY_UNREACHABLE\)/);
    });

    it('exits 69 when the web server knows nothing of us, having tried every entry', async (t) => {
      const server = answering('HTTP/1.1 404 No\r\nServer: nginx\x1b[31m\r\nConnection: close\r\n\r\n');
      const POSTERN_GATEWAY = `http://127.0.0.1:${await listen(t, server)}/`;
      const { status, stderr } = await postern(t, { ...token, POSTERN_GATEWAY }, 'connect', 'box');
      assert.equal(status, 69);
      assert.match(stderr, /tried relay, http, websocket, connect-tcp, connect.*\(HTTP_UNEXPECTED\)/);
      // oxlint-disable-next-line no-control-regex
      assert.doesNotMatch(stderr, /[\x00-\x09\x0b-\x1f]/);
    });

    it('opens a tunnel over TLS, with a certificate that only the CA file vouches for', async (t) => {
      const server = gatewayDouble(
        (tunnel) => void tunnel.end('hello'),
        createTlsServer({ key, cert: certificate }),
      );
      const POSTERN_GATEWAY = `https://localhost:${await listen(t, server)}/ssh/`;
      const caFile = join(temporaryDirectory(t), 'ca.pem');
      writeFileSync(caFile, authority);
      const env = { ...token, POSTERN_GATEWAY, https_proxy: '' };
      const done = await postern(t, env, 'connect', '--ca-file', caFile, 'box', '22');
      assert.deepEqual(done, { status: 0, stdout: 'hello', stderr: '' });
      const refused = await postern(t, env, 'connect', 'box', '22');
      assert.equal(refused.status, 69);
      assert.match(refused.stderr, /Example Inspection CA.*\(TLS_FAILED\)\npostern: hint: .*--ca-file/);
    });

    it('comes back when its connection is lost', async (t) => {
      const [echo, parts] = [await startEcho(), await startParts()];
      const proxy = await startFaultProxy(parts.port);
      t.after(async () => {
        proxy.close();
        echo.close();
        await parts.close();
      });
      const POSTERN_GATEWAY = `http://127.0.0.1:${proxy.port}/ssh/`;
      const child = spawn(node, [bundle, 'connect', 'localhost', String(echo.port)], {
        env: { HOME: temporaryDirectory(t), POSTERN_TOKEN: 'good', POSTERN_GATEWAY },
      });
      t.after(() => child.kill('SIGKILL'));
      const said = readAll(child.stderr);
      child.stdin.write('before ');
      await once(child.stdout, 'readable');
      proxy.cut('reset');
      child.stdin.end('after');
      assert.equal(String(await readAll(child.stdout)), 'before after', String(await said));
    });

    for (const via of entryNames) {
      it(`opens a tunnel by ${via}`, async (t) => {
        const server = gatewayDouble(
          (tunnel) => void readAll(tunnel).then(() => tunnel.end('hello from the far side')),
        );
        const POSTERN_GATEWAY = `http://127.0.0.1:${await listen(t, server)}/ssh/`;
        const done = await postern(t, { ...token, POSTERN_GATEWAY }, 'connect', '--via', via, 'box', '22');
        assert.deepEqual(done, { status: 0, stdout: 'hello from the far side', stderr: '' });
      });
    }
  });
}
