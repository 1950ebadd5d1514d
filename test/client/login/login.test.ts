import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import { own } from '../../e2e/support/process.ts';
import { answering, listen, rawServer, temporaryDirectory, unsignedToken } from '../support.ts';
import { Browser } from './browser.ts';
import { startGatewayProcess } from './gateway.ts';
import { Home, watch } from './home.ts';

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

  it('asks for the gateway when none is known', async (t) => {
    const home = new Home(t, new URL('http://127.0.0.1/'), { POSTERN_GATEWAY: '' });
    const done = await home.run('login');
    assert.equal(done.status, 78);
    assert.match(
      done.stderr,
      /\(GATEWAY_UNSET\)\npostern: hint: postern login https:\/\/gw\.example\/ssh\/\n$/,
    );
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
    const isRefused = async (...args: string[]): Promise<void> => {
      const { stdout, stderr } = await home.start(args, env).finished;
      assert.match(stdout + stderr, /\(PROXY_REFUSED\)/, args.join(' '));
    };
    const commands = [['login'], ['connect', 'box'], ['hosts'], ['status'], ['ticket', 'box']];
    for (const args of commands) await isRefused(...args);
    changeKept(directory, (kept) => (kept.renewAt = kept.expiresAt = 0));
    await isRefused('connect', 'box');
    await isRefused('logout');
    assert.equal(asked.length, 7);
    for (const line of asked) assert.equal(line, 'CONNECT gw.example:443 HTTP/1.1');
  });

  it('says so when the company proxy wants a sign-in of its own', async (t) => {
    const proxy = answering('HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nConnection: close\r\n\r\n');
    const gateway = new URL('https://gw.example/ssh/');
    const env = { https_proxy: `http://127.0.0.1:${await listen(t, proxy)}`, no_proxy: '' };
    const home = new Home(t, gateway, env);
    const done = await home.run('login');
    assert.equal(done.status, 77);
    assert.match(done.stderr, /\(PROXY_SIGN_IN\)/);
    assert.deepEqual([readdirSync(home.directory(gateway)), home.browsers], [[], 0]);
  });

  it('may begin at once after one was killed while it asked the gateway where to sign in', async (t) => {
    const requests = new EventEmitter();
    const silent = rawServer((socket) => requests.emit('request', socket));
    const home = new Home(t, new URL(`http://127.0.0.1:${await listen(t, silent)}/ssh/`));
    for (let round = 0; round < 3; round++) {
      const asked = once(requests, 'request');
      const { child, finished } = home.start(['login']);
      await asked;
      child.kill('SIGKILL');
      await finished;
    }
  });

  it('may begin at once after one was killed while it fetched its tokens, which are worth nothing then', async (t) => {
    const gateway = await startGatewayProcess(t, { holdTokens: 1 });
    const home = new Home(t, gateway.url);
    const killed = home.start(['login', '--no-browser']);
    const url = await killed.said(/^(http:\S+)\n/m);
    const visit = new Browser().visit(url).catch(() => {});
    await gateway.said('held');
    killed.child.kill('SIGKILL');
    await Promise.all([killed.finished, visit]);
    assert.equal((await home.run('login')).status, 0);
    assert.equal((await home.run('connect', 'box')).stdout, 'hello alice\n');
    assert.deepEqual(readdirSync(home.directory(gateway.url)).length, 2);
  });

  it('goes on at two gateways at once', async (t) => {
    const gateways = [await startGatewayProcess(t), await startGatewayProcess(t)];
    const home = new Home(t, gateways[0]!.url);
    const logins = await Promise.all(gateways.map(({ url }) => home.run('login', url.href)));
    for (const { status, stderr } of logins) assert.equal(status, 0, stderr);
    for (const { url } of gateways)
      assert.equal((await home.run('connect', '--gateway', url.href, 'box')).stdout, 'hello alice\n');
    assert.equal(home.browsers, 2);
  });

  it('keeps everything for this user only, whatever the umask, behind a state folder that is a link', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    const there = temporaryDirectory(t);
    mkdirSync(dirname(home.state), { recursive: true });
    symlinkSync(there, home.state);
    const [node, client] = home.postern;
    const shell = own(
      spawn('sh', ['-c', 'umask 0; exec "$@"', 'sh', node!, client!, 'login'], {
        env: home.env,
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    );
    assert.equal((await watch(shell).finished).status, 0);
    const modes = readdirSync(there, { recursive: true, encoding: 'utf8' }).map((name) =>
      (statSync(join(there, name)).mode & 0o777).toString(8),
    );
    assert.deepEqual(modes.toSorted(), ['600', '600', '700']);
    assert.equal((await home.run('connect', 'box')).stdout, 'hello alice\n');
  });

  it('needs a place to keep what it gets; nothing else does', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url, { HOME: '/dev/null' });
    const outcomes = [];
    for (const args of [['login'], ['connect', 'box'], ['hosts'], ['logout']]) {
      const { status, stderr } = await home.run(...args);
      outcomes.push([args[0], status, /\(([A-Z_]+)\)/.exec(stderr)?.[1]]);
    }
    assert.deepEqual(outcomes, [
      ['login', 78, 'CONFIG_INVALID'],
      ['connect', 77, 'TOKEN_MISSING'],
      ['hosts', 77, 'TOKEN_MISSING'],
      ['logout', 0, undefined],
    ]);
  });
});

describe('postern logout', () => {
  it('forgets the sign-in also when the gateway is down, and says that it could not be told', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    assert.equal((await home.run('login')).status, 0);
    await gateway.stop();
    const done = await home.run('logout');
    assert.equal(done.status, 69);
    assert.match(done.stderr, /signed out on this machine, but .*\(GATEWAY_UNREACHABLE\)\n$/);
    assert.deepEqual(readdirSync(home.directory(gateway.url)), []);
    assert.equal((await home.run('logout')).status, 0);
  });
});

describe('what programs read', () => {
  it('has one shape for each command, and nothing else on stdout', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    const read = async (...args: string[]): Promise<Record<string, unknown>> =>
      JSON.parse((await home.run(...args)).stdout) as Record<string, unknown>;
    const url = gateway.url.href;
    const before = await read('status', '--json');
    assert.deepEqual(before, {
      version: 1,
      gateway: url,
      signedIn: false,
      confirmed: false,
      tunnels: [],
      problem: { code: 'TOKEN_MISSING', message: `you are not signed in to ${url}` },
    });
    assert.equal((await home.run('hosts', '--json')).stdout, '');
    await home.run('login');
    const { expiresAt, tokenFrom, ...after } = await read('status', '--json');
    assert.equal(tokenFrom, join(home.directory(gateway.url), 'sign-in.json'));
    assert.ok(Date.parse(String(expiresAt)) > Date.now());
    const session = { id: 's1', target: 'box:22', since: '2026-11-23T01:02:03.000Z' };
    assert.deepEqual(after, {
      version: 1,
      gateway: url,
      signedIn: true,
      confirmed: true,
      subject: 'alice',
      issuer: `${url}oauth`,
      groups: ['dev'],
      until: '2026-11-24T00:00:00.000Z',
      sessions: [session],
      tunnels: [],
    });
    const offline = await read('status', '--json', '--offline');
    assert.deepEqual(
      [offline['signedIn'], offline['confirmed'], offline['groups']],
      [true, false, undefined],
    );
    assert.deepEqual(await read('hosts', '--json'), {
      version: 1,
      gateway: url,
      hosts: [{ pattern: 'box:22' }],
    });
    assert.deepEqual(await read('ticket', 'box', '--json'), {
      version: 1,
      ticket: `pt_${'a'.repeat(43)}`,
      expiresAt: '2026-11-23T02:00:00.000Z',
    });
    await gateway.stop();
    const down = await read('status', '--json');
    assert.deepEqual([down['signedIn'], down['confirmed']], [true, false]);
    assert.equal((down['problem'] as Record<string, unknown>)['code'], 'GATEWAY_UNREACHABLE');
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

  for (const clockAheadMs of [-3_600_000, -300_000, 300_000, 3_600_000]) {
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
