// SECURITY: canary secrets, shown in every way a caller can show one, must turn up nowhere: no log, no audit, no metric,
// no process list, no file, no answer.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { text } from 'node:stream/consumers';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:tls';
import { relayHead, upgradeHead, webSocketFields } from '../server/support/peers.ts';
import { exchange } from '../server/support/gateway-parts.ts';
import { makeCertificates } from '../e2e/support/certificates.ts';
import { gatewayCommand, startGateway } from '../e2e/support/gateway.ts';
import type { Gateway } from '../e2e/support/gateway.ts';
import { needs } from '../e2e/support/needs.ts';
import { freePort, output, run } from '../e2e/support/process.ts';
import { startFront } from '../e2e/support/proxies.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { clientCommand } from '../e2e/support/ssh.ts';
import { listen } from '../e2e/support/world.ts';
import { patient } from '../support/slowness.ts';

const scratch = openScratch();

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token by its form, of this name; its signature is none. */
function canary(name: string): string {
  const signature = Buffer.from(`CANARY-${name}-`.padEnd(64, 'c')).toString('base64url');
  return `${part({ alg: 'EdDSA', typ: 'at+jwt', kid: name })}.${part({ sub: name, exp: 9e9 })}.${signature}`;
}

const path = '/ssh/tcp/box/22/';
const basic = (pair: string): string => Buffer.from(pair).toString('base64');
const upgrade = (at: string, more: string): string => upgradeHead(at, 'connect-tcp', more);
const connect11 = (at: string, more: string): string => `CONNECT ${at} HTTP/1.1\r\nHost: a\r\n${more}\r\n`;
const plain = (at: string, more = ''): string =>
  `GET ${at} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${more}\r\n`;

const relayFields = `${webSocketFields}Sec-WebSocket-Protocol: postern.relay.v1\r\n`;

/** How a secret is shown; each gets one of its own. */
const showings: Readonly<Record<string, (secret: string) => string>> = {
  bearer: (secret) => upgrade(path, `Authorization: Bearer ${secret}\r\n`),
  'bearer of a WebSocket': (secret) =>
    upgradeHead(path, 'websocket', `${webSocketFields}Authorization: Bearer ${secret}\r\n`),
  'bearer of a relay': (secret) => relayHead('box:22', `Authorization: Bearer ${secret}\r\n`),
  'a query of a relay': (secret) =>
    upgradeHead(`/ssh/v4/connect?host=box&port=22&token=${secret}`, 'websocket', relayFields),
  'the host of a relay': (secret) =>
    upgradeHead(`/ssh/v4/connect?host=${secret}&port=22`, 'websocket', relayFields),
  'the session of a relay': (secret) =>
    upgradeHead(`/ssh/v4/reconnect?sid=${secret}&ack=0`, 'websocket', relayFields),
  'the proof of a relay': (secret) =>
    upgradeHead(
      '/ssh/v4/reconnect?sid=a&ack=0',
      'websocket',
      `${relayFields}Postern-Rejoin: count=1, mac=${secret}, cause=reset\r\n`,
    ),
  'bearer of CONNECT': (secret) => connect11('box:22', `Proxy-Authorization: Bearer ${secret}\r\n`),
  basic: (secret) => connect11('box:22', `Proxy-Authorization: Basic ${basic(`any:${secret}`)}\r\n`),
  'basic without a colon': (secret) => connect11('box:22', `Authorization: Basic ${basic(secret)}\r\n`),
  'no scheme': (secret) => upgrade(path, `Authorization: ${secret}\r\n`),
  'two words': (secret) => upgrade(path, `Authorization: Bearer ${secret} ${secret}\r\n`),
  'two fields': (secret) => upgrade(path, `Authorization: Bearer ${secret}\r\n`.repeat(2)),
  'too long': (secret) => upgrade(path, `Authorization: Bearer ${secret}${'x'.repeat(9000)}\r\n`),
  'a broken request': (secret) => upgrade(path, `Authorization: Bearer ${secret}\r\nX : a\r\n`),
  'a broken version': (secret) => plain(`/ssh/?token=${secret}`).replace('HTTP/1.1', 'HTTP/9.9'),
  query: (secret) => upgrade(`${path}?token=${secret}`, ''),
  'query of a page': (secret) => plain(`/ssh/?token=${secret}`),
  'query of nothing': (secret) => plain(`/ssh/nothing?access_token=${secret}`),
  path: (secret) => upgrade(`/ssh/${secret}/tcp/box/22/`, ''),
  'path of a page': (secret) => plain(`/ssh/${secret}/`),
  'path of a tunnel': (secret) => plain(`/ssh/tcp/${secret}/22/`),
  'the host of a path': (secret) => upgrade(`/ssh/tcp/${secret}/22/`, ''),
  'a user of a path': (secret) => upgrade(`/ssh/tcp/any:${secret}@box/22/`, ''),
  'the host of CONNECT': (secret) => connect11(`${secret}:22`, ''),
  'a user of CONNECT': (secret) => connect11(`any:${secret}@box:22`, ''),
  'an absolute URL': (secret) => connect11(`http://any:${secret}@box:22/`, ''),
  subprotocol: (secret) =>
    upgradeHead(path, 'websocket', `${webSocketFields}Sec-WebSocket-Protocol: bearer, ${secret}\r\n`),
  cookie: (secret) => upgrade(path, `Cookie: token=${secret}\r\n`),
  'a key that is none': (secret) =>
    upgradeHead(path, 'websocket', `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${secret}\r\n`),
  'an origin': (secret) => upgrade(path, `Origin: https://any:${secret}@evil.example\r\n`),
  'an address it claims': (secret) => upgrade(path, `X-Forwarded-For: ${secret}\r\n`),
};

/** Secrets that are no JWTs; each showing gets one of its own. */
const otherSecrets: Readonly<Record<string, () => string>> = {
  'a ticket': () => `pt_${randomBytes(32).toString('base64url')}`,
  'a ticket in lower case': () => `pt_${randomBytes(32).toString('base64url').toLowerCase()}`,
  'a refresh token, or a code': () => randomBytes(32).toString('base64url'),
  'a code that a person types': () =>
    [...randomBytes(8)]
      .map((byte) => 'BCDFGHJKLMNPQRSTVWXZ'[byte % 20])
      .join('')
      .replace(/^.{4}/, '$&-'),
};

/** What of a secret must not be seen: any part of it, and its bytes as a log may show a buffer. */
function traces(secret: string): readonly string[] {
  const signature = secret.split('.')[2];
  if (signature === undefined) return [secret, secret.slice(0, 40), secret.toLowerCase().slice(0, 40)];
  return [
    secret,
    signature.slice(0, 40),
    basic(`any:${secret}`).slice(8, 80),
    [...Buffer.from(signature)].slice(0, 20).join(','),
  ];
}

function filesBelow(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((name) => statSync(name).isFile());
}

async function metricsOf(gateway: Gateway): Promise<string> {
  const response = await new Promise<IncomingMessage>((resolve, reject) =>
    get({ port: gateway.adminPort, host: '127.0.0.1', path: '/metrics' }, resolve).once('error', reject),
  );
  return text(response);
}

/** The command lines of all processes of this machine. */
function commandLines(): string {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      } catch {
        return '';
      }
    })
    .join('\n');
}

describe('a secret', needs('nginx', 'openssl', 'dist/postern.cjs'), () => {
  let gateway: Gateway;
  let frontPort: number;
  let authorityFile: string;
  const answers: string[] = [];
  const shown = new Map<string, string>();

  before(async () => {
    const certificates = await makeCertificates(scratch);
    ({ authorityFile } = certificates);
    frontPort = await freePort();
    const target = await listen(scratch, (socket) => socket.end('SSH-2.0-none\r\n'));
    gateway = await startGateway(scratch, {
      targets: { box: `127.0.0.1:${target}` },
      publicPort: frontPort,
      settings: { log: { level: 'trace' } },
    });
    await startFront(scratch, 'nginx', { certificates, port: frontPort, upstreamPort: gateway.port });
    for (const [what, show] of Object.entries(showings)) {
      const secret = canary(what.replaceAll(' ', '-'));
      shown.set(what, secret);
      answers.push(await exchange(gateway.port, show(secret)));
      if (show(secret).startsWith('CONNECT')) continue;
      answers.push(await throughNginx(show(secret)));
    }
    for (const [kind, make] of Object.entries(otherSecrets)) {
      for (const [what, show] of Object.entries(showings)) {
        const secret = make();
        shown.set(`${kind}: ${what}`, secret);
        answers.push(await exchange(gateway.port, show(secret)));
      }
      // Where a target belongs, and where the client names what it was given. It sends names in lower case, and a typed code
      // in lower case is a name like any other.
      if (kind === 'a code that a person types') continue;
      const secret = make();
      shown.set(`${kind}: a target that the client is given`, secret);
      for (const more of [{}, { HTTPS_PROXY: `http://user:${secret}@127.0.0.1:9` }]) {
        const { stdout, stderr } = await run(clientCommand('connect', `${secret}.example`, '22'), {
          env: { ...clientEnvironment(), POSTERN_TOKEN: canary('other'), ...more },
          input: '',
        });
        answers.push(stdout.toString(), stderr.toString());
      }
    }
    for (const [what, token] of [
      ['a bad token of the client', canary('client-bad')],
      ['a good token of the client', (await makeToken('client-good')).toString().trim()],
      ['a malformed token of the client', `${canary('client-malformed')} two`],
    ] as const) {
      shown.set(what, token);
      const file = scratch.path(`token-${shown.size}`);
      writeFileSync(file, token, { mode: 0o600 });
      for (const how of [{ POSTERN_TOKEN_FILE: file }, { POSTERN_TOKEN: token }]) {
        for (const via of ['relay', 'websocket', 'connect-tcp', 'connect', 'http']) {
          const { stdout, stderr } = await run(clientCommand('connect', '--via', via, 'box', '22'), {
            env: {
              ...clientEnvironment(),
              ...how,
            },
            input: '',
          });
          answers.push(stdout.toString(), stderr.toString(), commandLines());
        }
      }
    }
  });

  function clientEnvironment(): Readonly<Record<string, string>> {
    return {
      POSTERN_GATEWAY: `https://localhost:${frontPort}/ssh/`,
      POSTERN_CA_FILE: authorityFile,
      HOME: scratch.path('home'),
      XDG_STATE_HOME: scratch.path('home', 'state'),
      XDG_CONFIG_HOME: scratch.path('home', 'config'),
      XDG_CACHE_HOME: scratch.path('home', 'cache'),
    };
  }

  function throughNginx(request: string): Promise<string> {
    return new Promise((resolve) => {
      const socket = connect({
        port: frontPort,
        host: '127.0.0.1',
        servername: 'localhost',
        rejectUnauthorized: false,
      });
      let answer = '';
      socket.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
      socket.on('error', () => {});
      socket.setTimeout(patient(3000), () => socket.destroy());
      socket.on('close', () => resolve(answer));
      socket.end(request.replace('Host: a\r\n', 'Host: localhost\r\n'));
    });
  }

  function makeToken(subject: string): Promise<Buffer> {
    const { configFile } = gateway;
    return output([
      ...gatewayCommand,
      'token',
      '--config',
      configFile,
      '--subject',
      subject,
      '--group',
      'dev',
    ]);
  }

  it('was shown in more than ten ways, and every one was answered', () => {
    assert.ok(shown.size > 10);
    assert.match(answers[0]!, /^HTTP\/1\.1 401 /);
  });

  const places: Readonly<Record<string, () => Promise<string> | string>> = {
    "the gateway's log": () => gateway.running.log(),
    'the audit': () => readFileSync(gateway.auditFile, 'utf8'),
    metrics: () => metricsOf(gateway),
    'a command line': () => (existsSync('/proc/self/cmdline') ? commandLines() : ''),
    'an answer, or what the client says': () => answers.join('\n'),
    'a file that the client keeps': () =>
      existsSync(scratch.path('home'))
        ? filesBelow(scratch.path('home'))
            .map((file) => readFileSync(file, 'utf8'))
            .join('\n')
        : '',
  };
  for (const [place, read] of Object.entries(places)) {
    it(`is not in ${place}`, async () => {
      const said = await read();
      const found = [...shown].filter(([, secret]) => traces(secret).some((trace) => said.includes(trace)));
      assert.deepEqual(
        found.map(([what]) => what),
        [],
      );
    });
  }

  it("is not in nginx's log, when it came in a header", () => {
    const said = readFileSync(scratch.path('nginx.access.log'), 'utf8');
    const inUrl = /query|path|version|host of|user of|session of|target that/;
    const found = [...shown].filter(
      ([what, secret]) => !inUrl.test(what) && said.includes(traces(secret)[1]!),
    );
    assert.deepEqual(
      found.map(([what]) => what),
      [],
    );
  });
});
