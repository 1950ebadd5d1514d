// SECURITY: requests that Node's parser reads differently from a proxy, or differently from one version to the next.
// Each is answered once, without a tunnel, and the process goes on.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  dial,
  exchange,
  readHead,
  startEcho,
  startParts,
  statusOf,
} from '../server/support/gateway-parts.ts';
import type { Parts } from '../server/support/gateway-parts.ts';
import { connectTcpPeer, upgradeHead, webSocketFields } from '../server/support/peers.ts';
import { patient } from '../support/slowness.ts';

const good = 'Authorization: Bearer good\r\n';
const path = '/ssh/tcp/localhost/1/';
const filler = (count: number): string => Array.from({ length: count }, (_, at) => `X-${at}: 1\r\n`).join('');
const upgrade = (more: string): string => upgradeHead(path, 'connect-tcp', more);
const connect = (more: string): string => `CONNECT localhost:1 HTTP/1.1\r\nHost: a\r\n${more}\r\n`;

const refused: Readonly<Record<string, string>> = {
  'a fold in a field that counts': upgrade('Authorization: Bearer\r\n good\r\n'),
  'a fold that hides an upgrade': `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nX: a\r\n Upgrade: connect-tcp\r\n${good}\r\n`,
  'NUL in a field': upgrade(`${good}X: a\0b\r\n`),
  'NUL in a field that counts': upgrade('Authorization: Bearer good\0\r\n'),
  'a space before the colon': upgrade('Authorization : Bearer good\r\n'),
  'lines that end in LF': upgrade(good).replaceAll('\r\n', '\n'),
  'a bare CR in a field': upgrade(`${good}X: a\rUpgrade: websocket\r\n`),
  'length and chunks': upgrade(`${good}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n`),
  'an unknown coding': upgrade(`${good}Transfer-Encoding: xchunked\r\n`),
  'two lengths': upgrade(`${good}Content-Length: 0\r\nContent-Length: 0\r\n`),
  'a length of zero': upgrade(`${good}Content-Length: 0\r\n`),
  '101 fields, the token the last of them': upgrade(filler(150) + good),
  '101 fields, a body announced in the last': upgrade(`${good}${filler(150)}Content-Length: 5\r\n`),
  '3000 fields': connect(good + filler(3000)),
  'two fields of the upgrade': upgrade(`${good}Upgrade: connect-tcp\r\n`),
  'an absolute URL': upgrade(good).replace(`GET ${path}`, `GET http://a${path}`),
  'CONNECT with an absolute URL': connect(good).replace('localhost:1', 'http://localhost:1/'),
  'connect in small letters': connect(good).replace('CONNECT', 'connect'),
  'HTTP/1.2': connect(good).replace('HTTP/1.1', 'HTTP/1.2'),
  'HTTP/2.0': connect(good).replace('HTTP/1.1', 'HTTP/2.0'),
  'the preface of HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'HEAD with an upgrade': upgrade(good).replace('GET', 'HEAD'),
};

/** The rest of the request never comes. From Node 26 on, these reach us without their socket. */
const unfinished: Readonly<Record<string, string>> = {
  'an upgrade whose body is to come': upgrade(`${good}Content-Length: 50\r\n`),
  'an upgrade whose body has begun': `${upgrade(`${good}Content-Length: 50\r\n`)}abc`,
  'an upgrade whose chunks are to come': upgrade(`${good}Transfer-Encoding: chunked\r\n`),
  'an upgrade with half a chunk': `${upgrade(`${good}Transfer-Encoding: chunked\r\n`)}ff\r\nabc`,
  'a WebSocket whose body is to come': upgradeHead(
    path,
    'websocket',
    `${webSocketFields}${good}Content-Length: 9\r\n`,
  ),
  'a stranger whose body is to come': upgrade('Content-Length: 50\r\n'),
  'an upgrade of a path without a handler, whose body is to come': upgradeHead(
    '/',
    'h2c',
    'Content-Length: 9\r\n',
  ),
  'CONNECT whose body is to come': connect(`${good}Content-Length: 50\r\n`),
  'CONNECT whose chunks are to come': connect(`${good}Transfer-Encoding: chunked\r\n`),
};

const accepted: Readonly<Record<string, (port: number) => string>> = {
  'Connection: close, Upgrade': (port) =>
    upgradeHead(`/ssh/tcp/localhost/${port}/`, 'connect-tcp', good).replace(
      'Upgrade\r\n',
      'close, Upgrade\r\n',
    ),
  'names of fields in any case': (port) =>
    upgradeHead(`/ssh/tcp/localhost/${port}/`, 'Connect-TCP', good.toUpperCase().replace('GOOD', 'good'))
      .replace('Connection: Upgrade', 'cOnNeCtIoN: uPgRaDe')
      .replace('Upgrade: ', 'UPGRADE: '),
  'Expect: 100-continue': (port) =>
    upgradeHead(`/ssh/tcp/localhost/${port}/`, 'connect-tcp', `${good}Expect: 100-continue\r\n`),
  'fields named like members of an object': (port) =>
    upgradeHead(
      `/ssh/tcp/localhost/${port}/`,
      'connect-tcp',
      `${good}__proto__: a\r\nconstructor: b\r\ntoString: c\r\nhasOwnProperty: d\r\n`,
    ),
};

describe('a request that is not what it seems', () => {
  let gateway: Parts;
  const uncaught: unknown[] = [];
  const note = (error: unknown): number => uncaught.push(error);
  before(async () => {
    gateway = await startParts();
    gateway.server.maxHeadersCount = 100;
    process.on('uncaughtException', note);
  });
  after(async () => {
    process.off('uncaughtException', note);
    await gateway.close();
  });

  for (const [what, request] of Object.entries({ ...refused, ...unfinished })) {
    it(`opens nothing, is answered once and closed: ${what}`, async () => {
      const hidden = 'GET /ssh/hidden HTTP/1.1\r\nHost: a\r\n\r\n';
      for (const bytes of [request, ...(what in refused ? [request + hidden] : [])]) {
        const answer = await Promise.race([
          exchange(gateway.port, Buffer.from(bytes, 'latin1')),
          delay(4000, 'no answer', { ref: false }),
        ]);
        assert.ok([400, 404, 431, 505].includes(statusOf(answer)) || answer === '', answer);
        assert.equal(answer.match(/HTTP\/1\.1 /g)?.length ?? 0, answer === '' ? 0 : 1, answer);
      }
      assert.deepEqual(uncaught, []);
    });
  }

  for (const [what, request] of Object.entries(accepted)) {
    it(`opens a tunnel: ${what}`, async () => {
      const echo = await startEcho();
      const socket = await dial(gateway.port);
      socket.write(request(echo.port));
      // Before the target is dialled, where the client asks for it (RFC 9110 section 10.1.1).
      if (what.startsWith('Expect')) assert.equal(statusOf(await readHead(socket)), 100);
      assert.equal(statusOf(await readHead(socket)), 101);
      socket.destroy();
      echo.close();
    });
  }

  it('a body that goes on after the refusal is not read, and the connection is closed', async () => {
    const socket = await dial(gateway.port);
    socket.on('error', () => {});
    const closed = new Promise((resolve) => socket.once('close', () => resolve('closed')));
    socket.resume();
    socket.write(upgrade(`${good}Content-Length: 1000000000\r\n`));
    const flood = setInterval(() => socket.write(Buffer.alloc(10_000)), 5);
    const how = await Promise.race([closed, delay(patient(4000), 'still open', { ref: false })]);
    clearInterval(flood);
    socket.destroy();
    assert.equal(how, 'closed');
    assert.deepEqual(uncaught, []);
  });

  it('a body that is broken off by a reset leaves nothing behind', async () => {
    for (const request of Object.values(unfinished)) {
      const socket = await dial(gateway.port);
      socket.on('error', () => {});
      socket.write(request);
      await delay(10);
      socket.resetAndDestroy();
    }
    const echo = await startEcho();
    const tunnel = await connectTcpPeer.open(gateway.port, `localhost:${echo.port}`);
    tunnel.end('after');
    assert.equal(String((await tunnel.toArray())[0]), 'after');
    echo.close();
    assert.deepEqual(uncaught, []);
  });
});
