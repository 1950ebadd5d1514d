import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { exportJWK, generateKeyPair, SignJWT, type CryptoKey } from 'jose';
import { WebSocket } from 'ws';
import { makeCertificates, type Certificates } from '../support/certificates.ts';
import { startGateway, type Gateway } from '../support/gateway.ts';
import { needs } from '../support/needs.ts';
import { freePort, output, run, type Outcome } from '../support/process.ts';
import { startFront } from '../support/proxies.ts';
import { openScratch } from '../support/scratch.ts';
import { box, prepareSsh, type Ssh } from '../support/ssh.ts';
import { startSshd, type Sshd } from '../support/sshd.ts';
import { runInTerminal } from '../support/terminal.ts';

const scratch = openScratch();

/** Where a client without TLS finds the CONNECT entry. */
interface Door {
  readonly name: string;
  readonly port: () => number;
}

let sshd: Sshd;
let gateway: Gateway;
let certificates: Certificates;
let haproxyPort: number;
let haproxyPlainPort: number;
let signingKey: CryptoKey;
/** An ordinary token of the gateway, some 400 characters. */
let token: string;
/** The shortest that a JWT can be here: it fits where 255 characters are allowed. */
let shortToken: string;

const doors: readonly Door[] = [
  { name: 'direct', port: () => gateway.port },
  { name: 'behind HAProxy', port: () => haproxyPlainPort },
];

async function openDoors(): Promise<void> {
  [certificates, sshd] = await Promise.all([makeCertificates(scratch), startSshd(scratch)]);
  const pair = await generateKeyPair('EdDSA');
  signingKey = pair.privateKey;
  const jwksFile = scratch.path('jwks.json');
  writeFileSync(jwksFile, JSON.stringify({ keys: [{ ...(await exportJWK(pair.publicKey)), alg: 'EdDSA' }] }));
  haproxyPort = await freePort();
  haproxyPlainPort = await freePort();
  gateway = await startGateway(scratch, {
    targets: { [box]: `127.0.0.1:${sshd.port}` },
    publicPort: haproxyPort,
    settings: {
      issuers: [{ issuer: 'i', audience: 'a', jwksFile, algorithms: ['EdDSA'] }],
      rules: [
        { groups: ['dev'], targets: [box] },
        { subjects: ['s'], issuers: ['i'], targets: [box] },
      ],
    },
  });
  await startFront(scratch, 'haproxy', {
    certificates,
    port: haproxyPort,
    plainPort: haproxyPlainPort,
    upstreamPort: gateway.port,
  });
  token = readFileSync(gateway.tokenFile, 'utf8').trim();
  shortToken = await sign({});
}

const programs = [
  'ncat',
  'nc',
  'corkscrew',
  'connect-proxy',
  'proxytunnel',
  'socat',
  'plink',
  'puttygen',
  'curl',
];
const lacking = needs('ssh', 'sshd', 'ssh-keygen', 'openssl', 'script', 'haproxy', ...programs);

/** A token of the test's own issuer with `claims` besides the least. */
function sign(claims: Record<string, unknown>): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ iss: 'i', aud: 'a', sub: 's', iat: now, exp: now + 600, ...claims })
    .setProtectedHeader({ alg: 'EdDSA' })
    .sign(signingKey);
}

/** A token of more than `length` characters that is valid in every other way. */
function signLong(length: number): Promise<string> {
  return sign({ padding: 'x'.repeat(length) });
}

let plans = 0;

/** An ssh whose ProxyCommand is the stock client; a token that it needs is in its environment or in its file. */
function ssh(proxyCommand: string, env: Record<string, string> = {}): Ssh {
  return prepareSsh(scratch, { sshd, proxyCommand, env, name: `stock-${++plans}` });
}

/** A stock client that takes its token by argument, environment or file. */
interface StockClient {
  readonly name: string;
  readonly command: (
    port: number,
    token: string,
  ) => { readonly proxyCommand: string; readonly env?: Record<string, string> };
  /** What it says, or does, when the gateway answers 407. */
  readonly refusal: RegExp;
  /** Length of a valid token that is too long for it, and what it says to that. */
  readonly tooLong?: { readonly length: number; readonly says: RegExp };
}

const clients: readonly StockClient[] = [
  {
    name: 'ncat',
    command: (port, token) => ({
      proxyCommand: `ncat --proxy 127.0.0.1:${port} --proxy-type http --proxy-auth user:${token} %h %p`,
    }),
    refusal: /Proxy returned status code 407/,
  },
  {
    name: 'corkscrew',
    command(port, token) {
      const file = scratch.path(`corkscrew-${++plans}`);
      writeFileSync(file, `user:${token}\n`, { mode: 0o600 });
      return { proxyCommand: `corkscrew 127.0.0.1 ${port} %h %p ${file}` };
    },
    refusal: /Proxy could not open connection to box: .*\(TOKEN_INVALID\)/,
    // It sends half a request: the gateway, or HAProxy, waits for the rest no longer than for any other.
    tooLong: { length: 6000, says: /closed by remote host/ },
  },
  {
    name: 'connect-proxy',
    command: (port, token) => ({
      proxyCommand: `connect-proxy -H user@127.0.0.1:${port} %h %p`,
      env: { HTTP_PROXY_PASSWORD: token },
    }),
    refusal: /Authentication failed/,
  },
  {
    name: 'socat',
    command: (port, token) => ({
      proxyCommand: `socat - PROXY:127.0.0.1:%h:%p,proxyport=${port},proxyauth=user:${token}`,
    }),
    refusal: /Proxy Authentication Required \(TOKEN_INVALID\)/,
    tooLong: { length: 2100, says: /option too long/ },
  },
  {
    name: 'proxytunnel -H',
    // HAProxy answers 400 when Host does not say what the request line says: -o.
    command: (port, token) => ({
      proxyCommand: `proxytunnel -p 127.0.0.1:${port} -d %h:%p -o %h:%p -H "Proxy-Authorization: Bearer ${token}"`,
    }),
    refusal: /407 Proxy Authentication Required \(TOKEN_INVALID\)/,
    tooLong: { length: 1100, says: /closed by remote host/ },
  },
];

describe('clients that are not ours', lacking, () => {
  before(openDoors);

  describe('stock clients at the CONNECT entry', () => {
    for (const { name: where, port } of doors) {
      describe(where, { concurrency: 4 }, () => {
        for (const { name, command, refusal, tooLong } of clients) {
          it(`${name} carries ssh`, async () => {
            const { proxyCommand, env } = command(port(), token);
            const { code, stdout, stderr } = await ssh(proxyCommand, env).run([box, 'echo over it; exit 7']);
            assert.deepEqual([code, stdout.toString()], [7, 'over it\n'], stderr.toString());
          });

          it(`${name} says that a wrong token was refused`, async () => {
            const { proxyCommand, env } = command(port(), 'no.such.token');
            const { code, stderr } = await ssh(proxyCommand, env).run([box, 'true']);
            assert.equal(code, 255);
            assert.match(stderr.toString(), refusal);
          });

          if (!tooLong) continue;
          it(`${name} does not hang with a token of more than ${tooLong.length} characters`, async () => {
            const { proxyCommand, env } = command(port(), await signLong(tooLong.length));
            const { code, stderr } = await ssh(proxyCommand, env).run([box, 'true']);
            assert.equal(code, 255);
            assert.match(stderr.toString(), tooLong.says);
          });
        }

        it('proxytunnel -P cuts a token after 80 characters: it is refused', async () => {
          const command = `proxytunnel -p 127.0.0.1:${port()} -d %h:%p -o %h:%p -P user:${shortToken}`;
          const { code, stderr } = await ssh(command).run([box, 'true']);
          assert.equal(code, 255);
          assert.match(stderr.toString(), /407 Proxy Authentication Required \(TOKEN_INVALID\)/);
        });

        it('nc carries ssh with a short token, which it asks for', async () => {
          const { configFile, env } = ssh(`nc -X connect -x 127.0.0.1:${port()} -P user %h %p`);
          const answers = [{ prompt: /password.*: ?$/i, type: shortToken }];
          const { code, stdout } = await runInTerminal(
            `ssh -F ${configFile} ${box} 'echo over it; exit 7'`,
            answers,
            env,
          );
          assert.match(stdout.toString(), /over it/);
          assert.equal(code, 7);
        });

        it('nc cuts a token after 255 characters, and says that it was refused', async () => {
          const { configFile, env } = ssh(`nc -X connect -x 127.0.0.1:${port()} -P user %h %p`);
          const prompt = /password.*: ?$/i;
          const type = await signLong(300);
          const answers = [1, 2, 3].map(() => ({ prompt, type }));
          const { code, stdout } = await runInTerminal(`ssh -F ${configFile} ${box} true`, answers, env);
          assert.equal(code, 255);
          assert.match(stdout.toString(), /Proxy authentication failed/);
        });

        it('plink logs in through its own HTTP proxy settings', async () => {
          const { code, stdout, stderr } = await plink(port(), token);
          assert.deepEqual([code, stdout.toString()], [7, 'over it\n'], stderr.toString());
        });

        it('plink says that a wrong token was refused', async () => {
          const { code, stderr } = await plink(port(), 'no.such.token');
          assert.notEqual(code, 0);
          assert.match(stderr.toString(), /Proxy error/);
        });

        for (const [how, credentials] of [
          ['a Basic password', () => ['--proxy-user', `user:${token}`]],
          ['a Bearer header', () => ['--proxy-header', `Proxy-Authorization: Bearer ${token}`]],
        ] as const) {
          it(`curl sees the SSH banner with ${how}`, async () => {
            const { stdout, stderr } = await curl(['-x', `http://127.0.0.1:${port()}`, ...credentials()]);
            assert.match(stdout.toString('latin1'), /^SSH-2\.0-OpenSSH/, stderr.toString());
          });
        }

        it('curl says that a wrong token was refused', async () => {
          const { code, stderr } = await curl([
            '-x',
            `http://127.0.0.1:${port()}`,
            '--proxy-user',
            'user:no.such.token',
          ]);
          assert.equal(code, 56);
          assert.match(stderr.toString(), /407/);
        });
      });
    }

    it('proxytunnel carries ssh through TLS to HAProxy', async () => {
      const tls = `-E -C ${certificates.authorityFile} -p localhost:${haproxyPort}`;
      const command = `proxytunnel ${tls} -d %h:%p -o %h:%p -H "Proxy-Authorization: Bearer ${token}"`;
      const { code, stdout, stderr } = await ssh(command).run([box, 'echo over it; exit 7']);
      assert.deepEqual([code, stdout.toString()], [7, 'over it\n'], stderr.toString());
    });

    it('curl sees the SSH banner through TLS to HAProxy', async () => {
      const proxy = ['-x', `https://localhost:${haproxyPort}`, '--proxy-cacert', certificates.authorityFile];
      // curl waits on the socket for what it has read with the proxy's response already, if the banner is as quick as that.
      let output = await curl([...proxy, '--proxy-user', `user:${token}`]);
      for (let more = 4; more > 0 && output.stdout.length === 0; more--)
        output = await curl([...proxy, '--proxy-user', `user:${token}`]);
      assert.match(output.stdout.toString('latin1'), /^SSH-2\.0-OpenSSH/, output.stderr.toString());
    });
  });

  describe('a plain WebSocket client at the huproxy path', () => {
    it('gets the SSH banner as a binary message', async () => {
      const socket = open({ authorization: `Bearer ${token}` });
      const [data, isBinary] = (await once(socket, 'message')) as [Buffer, boolean];
      assert.equal(isBinary, true);
      assert.match(data.toString('latin1'), /^SSH-2\.0-OpenSSH/);
      socket.close(1000);
      const [code] = (await once(socket, 'close')) as [number];
      assert.equal(code, 1000);
    });

    it('may use Basic with any user, as huproxyclient does', async () => {
      const socket = open({ authorization: `Basic ${Buffer.from(`user:${token}`).toString('base64')}` });
      await once(socket, 'message');
      socket.terminate();
    });

    it('is refused with 401 and without a token before any upgrade', async () => {
      const socket = open({});
      socket.on('error', () => {});
      const [request, response] = await once(socket, 'unexpected-response');
      assert.equal(response.statusCode, 401);
      request.destroy();
    });
  });
});

/** curl is not 8-bit clean here: it shows the banner, and is no ProxyCommand. */
function curl(args: readonly string[]): Promise<Outcome> {
  return run(['curl', '-sS', '-p', '--max-time', '6', ...args, `telnet://${box}:22`], { openInput: true });
}

async function plink(port: number, password: string): Promise<Outcome> {
  const home = scratch.path(`putty-${++plans}`);
  mkdirSync(`${home}/sessions`, { recursive: true });
  const settings = {
    HostName: box,
    PortNumber: 22,
    Protocol: 'ssh',
    UserName: sshd.user,
    ProxyMethod: 3,
    ProxyHost: '127.0.0.1',
    ProxyPort: port,
    ProxyLocalhost: 1,
    ProxyUsername: 'user',
    ProxyPassword: password,
  };
  const lines = Object.entries(settings).map(([key, value]) => `${key}=${value}\n`);
  writeFileSync(`${home}/sessions/through`, lines.join(''));
  const key = `${home}/id.ppk`;
  await output(['puttygen', sshd.identityFile, '-O', 'private', '-o', key]);
  const shown = (await output(['ssh-keygen', '-lf', scratch.path('host-key.pub')])).toString();
  const fingerprint = /SHA256:\S+/.exec(shown)![0];
  const argv = [
    'plink',
    '-batch',
    '-load',
    'through',
    '-i',
    key,
    '-hostkey',
    fingerprint,
    'echo over it; exit 7',
  ];
  return run(argv, { env: { PUTTYDIR: home, HOME: home }, timeoutMs: 15_000 });
}

function open(headers: Record<string, string>): WebSocket {
  const url = `wss://localhost:${haproxyPort}/ssh/proxy/${box}/22`;
  return new WebSocket(url, { headers, ca: readFileSync(certificates.authorityFile) });
}
