import assert from 'node:assert/strict';
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { unsignedToken, listen, rawServer } from '../support.ts';
import { Browser } from './browser.ts';
import { startGatewayProcess } from './gateway.ts';
import { Home } from './home.ts';

/** What the sign-in file holds. */
interface Kept {
  accessToken: string;
  refreshToken: string;
  renewAt: number;
  expiresAt: number;
  clockOffsetMs: number;
}

function readKept(directory: string): Kept {
  return JSON.parse(readFileSync(join(directory, 'sign-in.json'), 'utf8')) as Kept;
}

function changeKept(directory: string, change: (kept: Kept) => void): void {
  const kept = readKept(directory);
  change(kept);
  writeFileSync(join(directory, 'sign-in.json'), JSON.stringify(kept));
}

describe('postern login', () => {
  it('signs in with the browser, and everything works until postern logout', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url, { POSTERN_GATEWAY: '' });
    const login = await home.run('login', gateway.url.href);
    assert.equal(login.status, 0, login.stderr);
    assert.match(login.stderr, /^http:\/\/127.*\npostern: signed in as alice$/m);
    assert.equal(login.stdout, '');
    // The gateway needs no name from now on.
    assert.deepEqual(await home.run('connect', 'box'), { status: 0, stdout: 'hello alice\n', stderr: '' });
    assert.deepEqual(await home.run('hosts'), { status: 0, stdout: 'box:22\n', stderr: '' });
    const hosts = JSON.parse((await home.run('hosts', '--json')).stdout) as object;
    assert.deepEqual(hosts, { version: 1, gateway: gateway.url.href, hosts: [{ pattern: 'box:22' }] });
    const status = JSON.parse((await home.run('status', '--json')).stdout) as Record<string, unknown>;
    assert.deepEqual(
      [status['signedIn'], status['confirmed'], status['subject'], status['until']],
      [true, true, 'alice', '2026-11-24T00:00:00.000Z'],
    );
    const ticket = await home.run('ticket', 'box', 'db:2222', '--ttl', '90s', '--uses', '2');
    assert.deepEqual([ticket.status, ticket.stdout], [0, `pt_${'a'.repeat(43)}\n`]);
    const { ticket: asked } = await gateway.counts();
    assert.deepEqual(asked, { targets: ['box:22', 'db:2222'], ttlSeconds: 90, uses: 2 });
    const directory = home.directory(gateway.url);
    assert.equal((await home.run('logout')).status, 0);
    assert.deepEqual(readdirSync(directory), []);
    assert.equal((await gateway.counts()).revocations, 1);
    assert.equal((await home.run('connect', 'box')).status, 77);
    assert.equal((await home.run('status', '--json')).status, 77);
    assert.equal((await home.run('logout')).status, 0);
    assert.equal(home.browsers, 1);
  });

  it('only prints the URL with --no-browser', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    const login = home.start(['login', '--no-browser']);
    await new Browser().visit(await login.said(/^(http:\S+)\n/m));
    assert.equal((await login.finished).status, 0);
    assert.equal(home.browsers, 0);
  });

  it('keeps sign-ins at two gateways apart', async (t) => {
    const [first, second] = [await startGatewayProcess(t), await startGatewayProcess(t)];
    const home = new Home(t, first.url);
    assert.equal((await home.run('login')).status, 0);
    assert.equal((await home.run('connect', '--gateway', second.url.href, 'box')).status, 77);
    assert.equal((await home.run('login', second.url.href)).status, 0);
    assert.equal((await home.run('logout', second.url.href)).status, 0);
    assert.equal((await home.run('connect', 'box')).stdout, 'hello alice\n');
  });

  it('may begin within a second after one was killed', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    const killed = home.start(['login', '--no-browser']);
    await killed.said(/^(http:\S+)\n/m);
    const waiting = home.start(['login']);
    await waiting.said(/a sign-in is under way; open\n(http:\S+)\n/);
    killed.child.kill('SIGKILL');
    await killed.finished;
    const began = performance.now();
    await waiting.said(/sign in with your browser/);
    assert.ok(performance.now() - began < 1000);
    assert.equal((await waiting.finished).status, 0);
    const again = home.start(['login', '--no-browser']);
    await again.said(/^(http:\S+)\n/m);
    again.child.kill('SIGKILL');
    await again.finished;
    const next = home.start(['login', '--no-browser']);
    await next.said(/to sign in, open/);
    next.child.kill('SIGINT');
    assert.equal((await next.finished).status, 130);
    assert.ok(!existsSync(join(home.directory(gateway.url), 'sign-in.lock')));
  });

  it('shows those who wait the same URL, and ends for all when it is given up', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    const first = home.start(['login', '--no-browser']);
    const url = await first.said(/^(http:\S+)\n/m);
    const others = [home.start(['login']), home.start(['login'])];
    for (const other of others) assert.equal(await other.said(/under way; open\n(http:\S+)\n/), url);
    first.child.kill('SIGTERM');
    assert.equal((await first.finished).status, 143);
    for (const other of others) assert.equal((await other.finished).status, 77);
    assert.equal(home.browsers, 0);
  });

  for (const [what, options, code, status] of [
    ['without sign-in', { noSignIn: true }, 'SIGN_IN_FAILED', 77],
    ['that sends people elsewhere', { issuer: 'https://evil.example/oauth' }, 'SIGN_IN_FAILED', 77],
    ['by another name', { publicUrl: 'https://gw.example/ssh/' }, 'CONFIG_INVALID', 78],
  ] as const) {
    it(`fails at a gateway ${what}, and keeps nothing`, async (t) => {
      const gateway = await startGatewayProcess(t, options);
      const home = new Home(t, gateway.url);
      const done = await home.run('login');
      assert.equal(done.status, status);
      assert.match(done.stderr, new RegExp(`\\(${code}\\)`));
      assert.deepEqual([readdirSync(home.directory(gateway.url)), home.browsers], [[], 0]);
    });
  }

  it('leads through the company proxy, like everything else', async (t) => {
    const asked: string[] = [];
    const refusing = rawServer((socket: Socket, head) => {
      asked.push(head.split('\r\n')[0]!);
      socket.resume().end('HTTP/1.1 403 No\r\nConnection: close\r\n\r\n');
    });
    const proxy = `http://127.0.0.1:${await listen(t, refusing)}`;
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    await home.run('login');
    // The same sign-in, for a gateway that only the proxy can reach.
    const there = new URL('https://gw.example/ssh/');
    const directory = home.directory(there);
    cpSync(home.directory(gateway.url), directory, { recursive: true });
    const text = readFileSync(join(directory, 'sign-in.json'), 'utf8').replaceAll(
      gateway.url.href,
      there.href,
    );
    writeFileSync(join(directory, 'sign-in.json'), text);
    const env = { POSTERN_GATEWAY: there.href, https_proxy: proxy, no_proxy: '' };
    const commands = [['login'], ['connect', 'box'], ['hosts'], ['status'], ['ticket', 'box']];
    for (const args of commands)
      assert.match((await home.start(args, env).finished).stderr + 'PROXY_REFUSED', /PROXY_REFUSED/);
    changeKept(directory, (kept) => (kept.renewAt = kept.expiresAt = 0));
    await home.start(['connect', 'box'], env).finished;
    await home.start(['logout'], env).finished;
    assert.equal(asked.length, 7);
    for (const line of asked) assert.equal(line, 'CONNECT gw.example:443 HTTP/1.1');
  });
});

describe('a sign-in', () => {
  it('that is stolen without its key opens nothing, here or by other means', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    await home.run('login');
    const thief = new Home(t, gateway.url);
    const [from, to] = [home.directory(gateway.url), thief.directory(gateway.url)];
    cpSync(from, to, { recursive: true });
    for (const name of readdirSync(to)) if (name.startsWith('proof-key')) rmSync(join(to, name));
    const own = await thief.run('connect', 'box');
    assert.deepEqual([own.status, /\(CONFIG_INVALID\)/.test(own.stderr)], [78, true]);
    const { accessToken, refreshToken } = readKept(from);
    for (const via of ['websocket', 'connect']) {
      const bare = await thief.start(['connect', '--via', via, 'box'], { POSTERN_TOKEN: accessToken })
        .finished;
      assert.notEqual(bare.status, 0);
    }
    const form = { grant_type: 'refresh_token', refresh_token: refreshToken, client_id: 'postern' };
    const answer = await fetch(new URL('oauth/token', gateway.url), {
      method: 'POST',
      body: new URLSearchParams(form),
    });
    assert.equal(answer.status, 400);
    assert.equal((await gateway.counts()).tunnels, 0);
    // And the person whose it is has lost nothing.
    assert.equal((await home.run('connect', 'box')).status, 0);
  });

  it('is renewed silently before it is needed, once for many', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    await home.run('login');
    const directory = home.directory(gateway.url);
    const before = readKept(directory);
    changeKept(directory, (kept) => (kept.renewAt = 0));
    const all = await Promise.all(Array.from({ length: 12 }, () => home.run('connect', 'box')));
    for (const done of all) assert.deepEqual(done, { status: 0, stdout: 'hello alice\n', stderr: '' });
    const { tokens, refused } = await gateway.counts();
    assert.deepEqual([tokens['refresh_token'], refused], [1, []]);
    const after = readKept(directory);
    assert.notEqual(after.accessToken, before.accessToken);
    assert.notEqual(after.refreshToken, before.refreshToken);
    assert.deepEqual(readdirSync(directory).length, 2);
  });

  it('whose refresh token somebody else has used ends, and says what to do', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    await home.run('login');
    const directory = home.directory(gateway.url);
    const old = readKept(directory);
    changeKept(directory, (kept) => (kept.renewAt = 0));
    assert.equal((await home.run('connect', 'box')).status, 0);
    changeKept(directory, (kept) => Object.assign(kept, { refreshToken: old.refreshToken, renewAt: 0 }));
    const done = await home.run('connect', 'box');
    assert.equal(done.status, 77);
    assert.match(done.stderr, /has ended \(TOKEN_MISSING\)\npostern: hint: postern login\n$/);
    assert.equal((await gateway.counts()).revocations, 1);
    assert.deepEqual(readdirSync(directory), []);
  });

  it('that the gateway ends is over at once, and forgotten', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    await home.run('login');
    const { refreshToken } = readKept(home.directory(gateway.url));
    const form = { token: refreshToken, client_id: 'postern' };
    await fetch(new URL('oauth/token/revocation', gateway.url), {
      method: 'POST',
      body: new URLSearchParams(form),
    });
    const done = await home.run('connect', 'box');
    assert.equal(done.status, 77);
    assert.match(done.stderr, /\(TOKEN_MISSING\)\npostern: hint: postern login\n$/);
  });

  it('whose access token is refused is renewed once', async (t) => {
    const gateway = await startGatewayProcess(t, { refuseTokens: [0] });
    const home = new Home(t, gateway.url);
    await home.run('login');
    assert.equal((await home.run('connect', 'box')).status, 0);
    const { tokens, refused } = await gateway.counts();
    assert.deepEqual([tokens['refresh_token'], refused.length], [1, 1]);
  });

  it('that is refused again and again leads to no loop', async (t) => {
    const gateway = await startGatewayProcess(t, { refuseTokens: [0, 1, 2, 3] });
    const home = new Home(t, gateway.url);
    await home.run('login');
    const done = await home.run('connect', 'box');
    assert.equal(done.status, 77);
    assert.match(done.stderr, /\(TOKEN_INVALID\)\npostern: hint: postern login\n$/);
    assert.equal((await gateway.counts()).refused.length, 2);
  });

  it('works where nonces are asked for, of tokens and of tunnels', async (t) => {
    const gateway = await startGatewayProcess(t, { requireNonce: true, tunnelNonce: 'n0nce' });
    const home = new Home(t, gateway.url);
    assert.equal((await home.run('login')).status, 0);
    assert.equal((await home.run('connect', 'box')).stdout, 'hello alice\n');
    assert.deepEqual((await gateway.counts()).refused, ['nonce']);
  });

  for (const clockAheadMs of [-3_600_000, -100_000, 100_000, 3_600_000]) {
    it(`works when the clock of the gateway is ${clockAheadMs / 1000} s ahead`, async (t) => {
      const gateway = await startGatewayProcess(t, { clockAheadMs });
      const home = new Home(t, gateway.url);
      assert.equal((await home.run('login')).status, 0);
      assert.equal((await home.run('connect', 'box')).stdout, 'hello alice\n');
      // The clock here is put right in the meantime.
      changeKept(home.directory(gateway.url), (kept) => (kept.clockOffsetMs = 0));
      assert.equal((await home.run('connect', 'box')).stdout, 'hello alice\n');
      assert.deepEqual((await gateway.counts()).refused, ['iat']);
    });
  }

  it('is not used for a token that was given', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    await home.run('login');
    const given = await home.start(['connect', 'box'], { POSTERN_TOKEN: unsignedToken({ sub: 'bob' }) })
      .finished;
    assert.equal(given.status, 77);
    assert.equal((await gateway.counts()).tokens['refresh_token'], undefined);
  });
});

describe('postern connect without a sign-in', () => {
  for (const [what, env] of [
    ['without a terminal', {}],
    ['in CI', { CI: 'true' }],
    ['with POSTERN_NO_INPUT', { POSTERN_NO_INPUT: '1' }],
  ] as const) {
    it(`fails at once ${what}, and opens no browser`, async (t) => {
      const server = createServer((socket) => socket.destroy());
      const gateway = new URL(`http://127.0.0.1:${await listen(t, server)}/ssh/`);
      let asked = 0;
      server.on('connection', () => asked++);
      const home = new Home(t, gateway, env);
      const done = await home.run('connect', 'box');
      assert.equal(done.status, 77);
      assert.match(done.stderr, /\(TOKEN_MISSING\)\npostern: hint: postern login\n$/);
      assert.deepEqual([asked, home.browsers], [0, 0]);
    });
  }
});
