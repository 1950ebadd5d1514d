import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { TunnelError } from '../../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import {
  codeOf,
  dial,
  exchange,
  generousLimits,
  loopbackDialer,
  startEcho,
  startParts,
  statusOf,
  tokenAuthenticator,
} from '../support/gateway-parts.ts';
import type { Parts } from '../support/gateway-parts.ts';
import { connectPeer, peers, relayHead, upgradeHead, webSocketFields } from '../support/peers.ts';

const good = 'Authorization: Bearer good\r\n';

function connectHead(target: string, more = good): string {
  return `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${more}\r\n`;
}

/** The ways of asking, as raw requests. */
const ways = {
  relay: (target: string, more = good) => relayHead(target, more),
  websocket: (target: string, more = good) =>
    upgradeHead(`/ssh/tcp/${target.replace(/:([^:]*)$/, '/$1')}/`, 'websocket', webSocketFields + more),
  'connect-tcp': (target: string, more = good) =>
    upgradeHead(`/ssh/tcp/${target.replace(/:([^:]*)$/, '/$1')}/`, 'connect-tcp', more),
  connect: connectHead,
} as const;

for (const [name, ask] of Object.entries(ways)) {
  const challenge = name === 'connect' ? 407 : 401;
  describe(`a refusal of ${name}`, () => {
    let gateway: Parts;
    before(async () => (gateway = await startParts()));
    after(() => gateway.close());

    it('has the same status, head and body for every way of not signing in', async () => {
      const answers = await Promise.all(
        [
          '',
          'Authorization: Bearer bad\r\n',
          'Authorization: Bearer\r\n',
          'Authorization: Negotiate abc\r\n',
          'Authorization: Basic !!!\r\n',
          `Authorization: Basic ${Buffer.from('user:bad').toString('base64')}\r\n`,
          `Authorization: Bearer ${'x'.repeat(9000)}\r\n`,
        ].map(async (field) => {
          const answer = await exchange(gateway.port, ask('box:22', field));
          // A second may begin between two of them.
          const timeless = answer.replace(/\r\nDate: [^\r]+/, '\r\nDate: NOW');
          return timeless.replaceAll(/X-Request-Id: (\S+)/.exec(answer)![1]!, 'ID');
        }),
      );
      assert.equal(statusOf(answers[0]!), challenge);
      assert.equal(codeOf(answers[0]!), 'TOKEN_INVALID');
      assert.equal(new Set(answers).size, 1, [...new Set(answers)].join('\n---\n'));
    });

    it('says close, has a body, and closes', async () => {
      const answer = await exchange(gateway.port, ask('box:22', ''));
      assert.match(answer, /\r\nConnection: close\r\n/);
      assert.match(answer, /\r\nContent-Type: application\/problem\+json\r\n/);
      const [head, body] = answer.split('\r\n\r\n');
      assert.equal(Number(/Content-Length: (\d+)/.exec(head!)?.[1]), body!.length);
    });

    it('answers nothing that follows in the same connection', async () => {
      const smuggled = 'GET /ssh/ HTTP/1.1\r\nHost: gw.example\r\n\r\n';
      const answer = await exchange(gateway.port, ask('box:22', '') + smuggled + smuggled);
      assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1);
    });

    it('is gone within two seconds though the client goes on sending', async () => {
      const socket = await dial(gateway.port);
      socket.on('error', () => {});
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.write(ask('box:22', ''));
      socket.resume();
      const flood = setInterval(() => socket.write(Buffer.alloc(10_000)), 5);
      const winner = await Promise.race([
        closed.then(() => 'closed'),
        delay(5000, 'still open', { ref: false }),
      ]);
      clearInterval(flood);
      assert.equal(winner, 'closed');
    });

    const throwing: [TunnelErrorCode, number, string | undefined][] = [
      ['TARGET_DENIED', 403, undefined],
      ['ADDRESS_DENIED', 403, 'destination_ip_prohibited'],
      ['NAME_NOT_FOUND', 502, 'dns_error'],
      ['NAME_TIMEOUT', 504, 'dns_timeout'],
      ['DIAL_REFUSED', 502, 'connection_refused'],
      ['DIAL_TIMEOUT', 504, 'connection_timeout'],
      ['DIAL_UNREACHABLE', 502, 'destination_ip_unroutable'],
      ['DIAL_EXHAUSTED', 503, 'connection_limit_reached'],
      ['AUDIT_UNAVAILABLE', 503, undefined],
    ];
    for (const [code, status, proxyStatus] of throwing) {
      it(`tells ${code} with ${status}, before 101 or 200`, async () => {
        const parts = await startParts({
          dialer: { dial: () => Promise.reject(new TunnelError(code, 'because')) },
        });
        const answer = await exchange(parts.port, ask('box:22'));
        assert.equal(statusOf(answer), status);
        assert.equal(codeOf(answer), code);
        assert.equal(/Proxy-Status: postern; error=(\w+)/.exec(answer)?.[1], proxyStatus);
        assert.equal(parts.ended[0]?.end, code);
        await parts.close();
      });
    }

    it('does not show what an unexpected error says', async () => {
      const parts = await startParts({ dialer: { dial: () => Promise.reject(new Error('secret-canary')) } });
      const answer = await exchange(parts.port, ask('box:22'));
      assert.equal(statusOf(answer), 500);
      assert.doesNotMatch(answer, /canary/);
      await parts.close();
    });

    it('comes when the tunnels are all taken, by address and by subject, and frees what it took', async () => {
      const echo = await startEcho();
      const cases: [object, TunnelErrorCode, number][] = [
        [{ tunnels: 1 }, 'LIMIT_TUNNELS', 503],
        [{ perAddress: 1 }, 'LIMIT_ADDRESS', 429],
        [{ perSubject: 1 }, 'LIMIT_SUBJECT', 429],
      ];
      for (const [limit, code, status] of cases) {
        const parts = await startParts({ limits: { ...generousLimits, ...limit } });
        const held = await connectPeer.open(parts.port, `localhost:${echo.port}`);
        const answer = await exchange(parts.port, ask(`localhost:${echo.port}`));
        assert.equal(statusOf(answer), status);
        assert.equal(codeOf(answer), code);
        assert.match(answer, /\r\nRetry-After: \d+\r\n/);
        held.end();
        held.resume();
        await parts.endedCount(2);
        (await connectPeer.open(parts.port, `localhost:${echo.port}`)).destroy();
        await parts.close();
      }
      echo.close();
    });

    it('comes while the gateway drains', async () => {
      const parts = await startParts({ draining: () => true });
      assert.equal(codeOf(await exchange(parts.port, ask('box:22'))), 'DRAINING');
      await parts.close();
    });

    it('comes when the opening cannot be recorded in time', { timeout: 20_000 }, async () => {
      const parts = await startParts({
        dialer: {
          dial: () =>
            loopbackDialer.dial({ target: self, address: self, rule: '' }, [AbortSignal.timeout(5000)]),
        },
        observers: [{ opening: () => new Promise(() => {}), ended() {} }],
      });
      const self = { host: 'localhost', port: parts.port };
      assert.equal(codeOf(await exchange(parts.port, ask('box:22'))), 'AUDIT_UNAVAILABLE');
      await parts.close();
    });

    it('comes when checking the token takes too long', async () => {
      const parts = await startParts({
        authenticator: tokenAuthenticator(() => new Promise(() => {})),
        limits: { ...generousLimits, preAuthMs: 50 },
      });
      assert.equal(codeOf(await exchange(parts.port, ask('box:22'))), 'SIGN_IN_TIMEOUT');
      await parts.close();
    });

    for (const target of [
      'box',
      'box:0',
      'box:022',
      'box:+22',
      'box:65536',
      '127.1:22',
      '0x7f.1:22',
      'a%2eb:22',
      'user@box:22',
      'bo$x:22',
      'box.:22',
      '[::1%25lo]:22',
    ]) {
      it(`comes for the target ${target}, before anything is looked up`, async () => {
        let dialled = false;
        const parts = await startParts({
          dialer: {
            dial() {
              dialled = true;
              return Promise.reject(new Error('dialled'));
            },
          },
        });
        const answer = await exchange(parts.port, ask(target));
        assert.ok([400, 404].includes(statusOf(answer)), answer);
        assert.equal(dialled, false);
        await parts.close();
      });
    }
  });
}

describe('requests that no entry takes', () => {
  let gateway: Parts;
  before(async () => (gateway = await startParts()));
  after(() => gateway.close());
  const path = '/ssh/tcp/box/22/';
  const cases: [what: string, request: string, status: number][] = [
    ['an unknown token', upgradeHead(path, 'h2c', good), 400],
    ['two tokens', upgradeHead(path, 'connect-tcp, websocket', good), 400],
    ['a token that only begins right', upgradeHead(path, 'connect-tcp-99', good), 400],
    ['another path', upgradeHead('/ssh/other', 'connect-tcp', good), 404],
    ['a query', upgradeHead(`${path}?token=x`, 'connect-tcp', good), 404],
    ['an absolute URL', upgradeHead(`http://gw.example${path}`, 'connect-tcp', good), 404],
    ['a path with dots', upgradeHead('/ssh/tcp/../tcp/box/22/', 'connect-tcp', good), 404],
    ['two slashes', upgradeHead('/ssh//tcp/box/22/', 'connect-tcp', good), 404],
    ['a body', upgradeHead(path, 'connect-tcp', `${good}Content-Length: 5\r\n`) + 'hello', 400],
    [
      'a chunked body',
      upgradeHead(path, 'connect-tcp', `${good}Transfer-Encoding: chunked\r\n`) + '0\r\n\r\n',
      400,
    ],
    ['two hosts', upgradeHead(path, 'connect-tcp', `${good}Host: other\r\n`), 400],
    ['two tokens of the caller', upgradeHead(path, 'connect-tcp', good + good), 400],
    [
      'two kinds of sign-in',
      upgradeHead(path, 'connect-tcp', `${good}Proxy-Authorization: Bearer good\r\n`),
      400,
    ],
    ['POST', upgradeHead(path, 'connect-tcp', good).replace('GET', 'POST'), 400],
    ['HTTP/1.0', upgradeHead(path, 'connect-tcp', good).replace('HTTP/1.1', 'HTTP/1.0'), 400],
    [
      'a page of another origin',
      upgradeHead(path, 'websocket', `${good}${webSocketFields}Origin: https://evil.example\r\n`),
      403,
    ],
    [
      'an old WebSocket',
      upgradeHead(
        path,
        'websocket',
        `${good}Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n`,
      ),
      400,
    ],
    [
      'a WebSocket without a key',
      upgradeHead(path, 'websocket', `${good}Sec-WebSocket-Version: 13\r\n`),
      400,
    ],
    [
      'a key that is none',
      upgradeHead(path, 'websocket', `${good}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n`),
      400,
    ],
    [
      'CONNECT with a body',
      `CONNECT box:22 HTTP/1.1\r\nHost: box:22\r\n${good}Content-Length: 5\r\n\r\nhello`,
      400,
    ],
    ['CONNECT with two hosts', `CONNECT box:22 HTTP/1.1\r\nHost: box:22\r\nHost: other\r\n${good}\r\n`, 400],
    ['CONNECT 1.1 without a host', `CONNECT box:22 HTTP/1.1\r\n${good}\r\n`, 400],
    ['CONNECT to a path', `CONNECT ${path} HTTP/1.1\r\nHost: box:22\r\n${good}\r\n`, 400],
  ];
  for (const [what, request, status] of cases) {
    it(`are refused: ${what}`, async () => {
      const count = gateway.ended.length;
      const answer = await exchange(gateway.port, request);
      assert.equal(statusOf(answer), status, answer);
      assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, answer);
      assert.match(answer, /\r\nConnection: close\r\n/i);
      await gateway.endedCount(count + 1);
    });
  }

  it('are ordinary requests otherwise', async () => {
    const answer = await exchange(
      gateway.port,
      'GET /ssh/ HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n\r\n',
    );
    assert.equal(statusOf(answer), 200);
  });
});

describe('what is asked for and how', () => {
  it('a target may be an IPv6 address, percent-encoded in a path', async () => {
    const asked: string[] = [];
    const gateway = await startParts({
      policy: {
        decide(_principal, target) {
          asked.push(`${target.host} ${target.port}`);
          throw new TunnelError('TARGET_DENIED', 'no');
        },
      },
    });
    await exchange(gateway.port, upgradeHead('/ssh/tcp/2001%3Adb8%3A%3A1/22/', 'connect-tcp', good));
    await exchange(
      gateway.port,
      upgradeHead('/.well-known/masque/tcp/2001%3ADB8%3A0%3A%3A1/22/', 'connect-tcp', good),
    );
    await exchange(gateway.port, upgradeHead('/ssh/proxy/BOX/22', 'websocket', good + webSocketFields));
    await exchange(gateway.port, connectHead('[2001:db8::1]:22'));
    assert.deepEqual(asked, ['2001:db8::1 22', '2001:db8::1 22', 'box 22', '2001:db8::1 22']);
    await gateway.close();
  });

  for (const peer of peers) {
    it(`a token that is wrong stops ${peer.name}`, async () => {
      const gateway = await startParts();
      await assert.rejects(peer.open(gateway.port, 'box:22', 'bad'));
      assert.equal(gateway.ended[0]?.end, 'TOKEN_INVALID');
      await gateway.close();
    });
  }

  it('each connect-tcp token is answered with itself and its own capsule types', async () => {
    const echo = await startEcho();
    const gateway = await startParts();
    for (const [token, sent] of [
      ['connect-tcp', 'a028d7f2026869a028d7f300'],
      ['connect-tcp-12', 'a028d7f2026869a028d7f300'],
      ['connect-tcp-07', 'a028d7f0026869a028d7f100'],
    ] as const) {
      const request = Buffer.from(upgradeHead(`/ssh/tcp/localhost/${echo.port}/`, token, good));
      // Capsules that come with the request wait for the tunnel.
      const answer = await exchange(gateway.port, Buffer.concat([request, Buffer.from(sent, 'hex')]));
      assert.match(answer, new RegExp(`^HTTP/1.1 101 [^]*\r\nUpgrade: ${token}\r\n`));
      assert.equal(Buffer.from(answer.split('\r\n\r\n')[1]!, 'latin1').toString('hex'), sent);
    }
    echo.close();
    await gateway.close();
  });

  it('a CONNECT of HTTP/1.0 without a host works, with early bytes', async () => {
    const echo = await startEcho();
    const gateway = await startParts();
    const basic = Buffer.from('any:good').toString('base64');
    const socket = await dial(gateway.port);
    socket.end(`CONNECT localhost:${echo.port} HTTP/1.0\r\nProxy-Authorization: Basic ${basic}\r\n\r\nearly`);
    let answer = '';
    for await (const chunk of socket) answer += String(chunk);
    assert.equal(answer, 'HTTP/1.1 200 Connection established\r\n\r\nearly');
    echo.close();
    await gateway.close();
  });
});
