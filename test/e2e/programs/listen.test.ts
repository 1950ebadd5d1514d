import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { before, describe, it } from 'node:test';
import { startListener, type Listener } from '../support/listener.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { eventually, run, type Outcome } from '../support/process.ts';
import { audited, mebibyte, sha256, succeeded } from '../support/resume.ts';
import { openScratch } from '../support/scratch.ts';
import { box, prepareSsh, type Ssh } from '../support/ssh.ts';
import { openWorld, talkBytes, type World } from '../support/world.ts';

const scratch = openScratch();
const programs = ['ssh', 'sshd', 'ssh-keygen', 'openssl', 'nginx', 'nc', 'ncat', 'socat', 'curl'];
const password = 'open sesame';

let world: World;
let env: Ssh['env'];
/** Its doors: a port, a unix socket, and both for `box` alone. */
let open: Listener;
let closed: Listener;
let passwordFile: string;
let plans = 0;

async function openAll(): Promise<void> {
  world = await openWorld(scratch, 'nginx');
  ({ env } = world.ssh());
  passwordFile = scratch.path('password');
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  [open, closed] = await Promise.all([
    startListener(
      scratch,
      [
        '--listen',
        '0',
        '--socket',
        scratch.path('door.sock'),
        '-L',
        `0:${box}:22`,
        '-L',
        `${scratch.path('box.sock')}:${box}:22`,
        '-L',
        '0:last:22',
      ],
      env,
    ),
    startListener(scratch, ['--listen', '127.0.0.1:0', '--password-file', passwordFile], env),
  ]);
}

function ssh(proxyCommand: string): Ssh {
  return prepareSsh(scratch, { sshd: world.sshd, proxyCommand, env: {}, name: `listen-${++plans}` });
}

/** curl shows what the target says first, and is no ProxyCommand. */
function curl(args: readonly string[], target: string = box): Promise<Outcome> {
  return run(['curl', '-sS', '--max-time', '20', ...args, `telnet://${target}:22`], { openInput: true });
}

/** Everything that comes back for `bytes`; our own end is sent at once. */
async function answerTo(port: number, bytes: string | Buffer): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => {});
  socket.on('end', () => socket.end());
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write(bytes);
  await closed;
  return Buffer.concat(chunks);
}

describe('postern listen, through nginx', needs(clientBundle, ...programs), () => {
  before(openAll);

  describe('carries ssh', { concurrency: 4 }, () => {
    const ways: Readonly<Record<string, () => string>> = {
      'nc -X connect': () => `nc -X connect -x 127.0.0.1:${open.port()} %h %p`,
      'nc -X 5': () => `nc -X 5 -x 127.0.0.1:${open.port()} %h %p`,
      'ncat, HTTP': () => `ncat --proxy 127.0.0.1:${open.port()} --proxy-type http %h %p`,
      'ncat, SOCKS5 that resolves there': () =>
        `ncat --proxy 127.0.0.1:${open.port()} --proxy-type socks5 --proxy-dns remote %h %p`,
      'ncat, HTTP with a password': () =>
        `ncat --proxy 127.0.0.1:${closed.port()} --proxy-type http --proxy-auth 'any:${password}' %h %p`,
      'ncat, SOCKS5 with a password': () =>
        `ncat --proxy 127.0.0.1:${closed.port()} --proxy-type socks5 --proxy-dns remote --proxy-auth 'any:${password}' %h %p`,
      'socat, SOCKS4a': () => `socat - SOCKS4A:127.0.0.1:%h:%p,socksport=${open.port()}`,
      'socat, HTTP': () => `socat - PROXY:127.0.0.1:%h:%p,proxyport=${open.port()}`,
      'a forward': () => `nc 127.0.0.1 ${open.port(2)}`,
      'a forward on a unix socket': () => `nc -U ${open.door(3)}`,
    };
    for (const [what, proxyCommand] of Object.entries(ways)) {
      it(`by ${what}`, async () => {
        const { code, stdout, stderr } = await ssh(proxyCommand()).run([box, 'echo over it; exit 7']);
        assert.deepEqual([code, stdout.toString()], [7, 'over it\n'], stderr.toString() + open.said());
      });
    }

    it('with 32 MiB each way at once, unchanged', async () => {
      const bytes = randomBytes(32 * mebibyte);
      const way = ssh(`nc -X connect -x 127.0.0.1:${open.port()} %h %p`);
      const { stdout } = await succeeded(way.run([box, 'cat'], { input: bytes, timeoutMs: 25_000 }));
      assert.equal(sha256(stdout), sha256(bytes));
    });
  });

  describe('shows curl the SSH banner', { concurrency: 6 }, () => {
    const banner = /^SSH-2\.0-OpenSSH/;
    const ways: Readonly<Record<string, () => readonly string[]>> = {
      '--socks5-hostname': () => ['--socks5-hostname', `127.0.0.1:${open.port()}`],
      '--socks4a': () => ['--socks4a', `127.0.0.1:${open.port()}`],
      '--proxytunnel': () => ['-p', '-x', `http://127.0.0.1:${open.port()}`],
      'SOCKS5 on the unix socket': () => ['-x', `socks5h://localhost${open.door(1)}`],
      'SOCKS5 with the password': () => [
        '--socks5-hostname',
        `127.0.0.1:${closed.port()}`,
        '--proxy-user',
        `any:${password}`,
      ],
      'HTTP with the password': () => [
        '-p',
        '-x',
        `http://127.0.0.1:${closed.port()}`,
        '--proxy-user',
        `any:${password}`,
      ],
    };
    for (const [what, args] of Object.entries(ways)) {
      it(`by ${what}`, async () => {
        const { stdout, stderr } = await curl([...args(), '-m', '3']);
        assert.match(stdout.toString('latin1'), banner, stderr.toString());
      });
    }
  });

  describe('refuses in the terms of the protocol', () => {
    it('to SOCKS5: not allowed', async () => {
      const codes = await open.failures(async () => {
        const { code, stderr } = await curl(['--socks5-hostname', `127.0.0.1:${open.port()}`], 'db');
        assert.notEqual(code, 0);
        assert.match(stderr.toString(), /\(2\)/);
      });
      assert.deepEqual(codes, ['TARGET_DENIED']);
      await eventually(() => open.said().includes('TARGET_DENIED'));
      assert.match(open.said(), /postern: policy: .*db:22.* \(TARGET_DENIED\)/);
    });

    it('to HTTP CONNECT: a status, the code in the reason phrase, a problem', async () => {
      const answer = await answerTo(open.port(), 'CONNECT db:22 HTTP/1.1\r\nHost: db:22\r\n\r\n');
      const [head, body] = answer.toString().split('\r\n\r\n');
      assert.match(head!, /^HTTP\/1\.1 403 Forbidden \(TARGET_DENIED\)/);
      assert.equal((JSON.parse(body!) as { code: string }).code, 'TARGET_DENIED');
    });

    it('to nc, which shows the reason phrase', async () => {
      const { code, stderr } = await run(`nc -X connect -x 127.0.0.1:${open.port()} db 22`.split(' '));
      assert.equal(code, 1);
      assert.match(stderr.toString(), /403 Forbidden \(TARGET_DENIED\)/);
    });

    it('to a wrong password and to none, by SOCKS5, SOCKS4 and HTTP', async () => {
      const at = `127.0.0.1:${closed.port()}`;
      const wrong = ['--proxy-user', 'any:wrong'];
      for (const args of [
        ['--socks5-hostname', at],
        ['--socks5-hostname', at, ...wrong],
        ['--socks4a', at],
        ['-p', '-x', `http://${at}`],
        ['-p', '-x', `http://${at}`, ...wrong],
      ]) {
        const codes = await closed.failures(async () => {
          const { code, stdout } = await curl(args);
          assert.notEqual(code, 0, args.join(' '));
          assert.equal(stdout.toString(), '');
        });
        assert.deepEqual(codes, ['LISTENER_DENIED']);
      }
      assert.ok(!closed.said().includes(password));
    });
  });

  describe('is no web server', () => {
    const requests: Readonly<Record<string, (port: number) => string>> = {
      'a page that was opened here': (port) => `GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`,
      'a page under a name of its own': () => 'GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n',
      'a form of a page, with a CONNECT in its body': (port) =>
        `POST / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nOrigin: https://evil.example\r\nContent-Length: 60\r\n\r\nCONNECT box:22 HTTP/1.1\r\nHost: box:22\r\n\r\n`,
      'a preflight request': () =>
        'OPTIONS * HTTP/1.1\r\nHost: a\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: CONNECT\r\n\r\n',
    };
    for (const [what, request] of Object.entries(requests)) {
      it(`does not answer ${what}`, async () => {
        const codes = await open.failures(async () => {
          const answer = await answerTo(open.port(), request(open.port()));
          assert.equal(answer.toString(), '');
        });
        assert.deepEqual(codes, ['REQUEST_INVALID']);
      });
    }

    for (const [what, request, status, code] of [
      ['a proxy for pages', 'GET http://box:22/ HTTP/1.1\r\nHost: box:22\r\n\r\n', 405, 'REQUEST_INVALID'],
      ['a page', 'CONNECT box:22 HTTP/1.1\r\nHost: box:22\r\nOrigin: null\r\n\r\n', 403, 'ORIGIN_DENIED'],
      [
        'a name of elsewhere',
        'CONNECT box:22 HTTP/1.1\r\nHost: evil.example\r\n\r\n',
        400,
        'REQUEST_INVALID',
      ],
    ] as const) {
      it(`answers ${status} to a client that takes it for ${what}`, async () => {
        const answer = await answerTo(open.port(), request);
        assert.match(answer.toString(), new RegExp(`^HTTP/1\\.1 ${status} .*\\(${code}\\)`));
      });
    }
  });

  it('a program that says the end of its input first still gets everything', async () => {
    for (const argv of [
      ['nc', '-N', '-X', 'connect', '-x', `127.0.0.1:${open.port()}`, 'last', '22'],
      ['nc', '-N', '-X', '5', '-x', `127.0.0.1:${open.port()}`, 'last', '22'],
      ['nc', '-N', '127.0.0.1', String(open.port(4))],
    ]) {
      const { stdout } = await succeeded(run(argv, { input: randomBytes(mebibyte) }));
      assert.equal(stdout.length, talkBytes, argv.join(' '));
    }
  });

  it('lets no other user open its socket', () => {
    for (const index of [1, 3]) assert.equal(statSync(open.door(index)).mode & 0o777, 0o600);
  });

  it('writes a password where there is none, for itself and others to read again', async () => {
    const file = scratch.path('new', 'password');
    const listener = await startListener(scratch, ['--listen', '0', '--password-file', file], env);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const made = readFileSync(file, 'utf8').trim();
    assert.match(made, /^[\w-]{24}$/);
    assert.ok(!listener.said().includes(made));
    const args = ['--socks5-hostname', `127.0.0.1:${listener.port()}`, '-m', '3'];
    const { stdout } = await curl([...args, '--proxy-user', `any:${made}`]);
    assert.match(stdout.toString('latin1'), /^SSH-2\.0/);
  });

  it('ends in order: tunnels are gone at the gateway, sockets in the file system, and it exits 0', async () => {
    const path = scratch.path('ending.sock');
    const listener = await startListener(scratch, ['--socket', path, '-L', `0:${box}:22`], env);
    const socket = connect(listener.port(1), '127.0.0.1').on('error', () => {});
    await once(socket, 'data');
    listener.signal('SIGTERM');
    assert.equal(await listener.ended, 0);
    assert.equal(existsSync(path), false);
    assert.deepEqual(listener.events().at(-1)?.['event'], 'stopped');
    await eventually(() => audited(world, 'end').some(({ cause }) => cause === 'CLIENT_LOST'));
  });

  for (const signal of ['SIGINT', 'SIGHUP'] as const) {
    it(`ends in order at ${signal} too`, async () => {
      const listener = await startListener(scratch, ['--listen', '0'], env);
      listener.signal(signal);
      assert.equal(await listener.ended, 0);
      assert.deepEqual(listener.events().at(-1)?.['event'], 'stopped');
    });
  }

  it('takes over the socket of a killed listener, but not one on which a process listens', async () => {
    const path = scratch.path('left.sock');
    const first = await startListener(scratch, ['--socket', path], env);
    await assert.rejects(startListener(scratch, ['--socket', path], env), /another program uses it/);
    first.signal('SIGKILL');
    await first.ended;
    assert.ok(existsSync(path));
    await startListener(scratch, ['--socket', path], env);
    const { stdout } = await curl(['-x', `socks5h://localhost${path}`, '-m', '3']);
    assert.match(stdout.toString('latin1'), /^SSH-2\.0/);
  });
});
