// How the public server refuses what is no request for a tunnel: for people, for programs, and in its own records.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startGatewayApp } from '../support/gateway-app.ts';
import type { RunningGateway } from '../support/gateway-app.ts';
import { codeOf, dial, exchange, statusOf } from '../support/gateway-parts.ts';
import { upgradeHead, webSocketFields } from '../support/peers.ts';

const head = (target: string, fields = ''): string =>
  `GET ${target} HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n${fields}\r\n`;

/** The lines of one kind that a log has at most since then: a burst, ten a second, and its summaries. */
function allowance(startedAt: number): number {
  const seconds = (performance.now() - startedAt) / 1000;
  return 50 + 10 * seconds + seconds + 5;
}

describe('the public server', () => {
  let gateway: RunningGateway;
  before(async () => (gateway = await startGatewayApp()));
  after(() => gateway.close());

  const browser = 'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n';

  for (const [target, status, words] of [
    ['/nope', 404, 'Page not found'],
    ['/%zz', 400, 'The gateway cannot read this request'],
    ['/ssh/nope', 404, 'Page not found'],
    ['/ssh/%zz', 400, 'The gateway cannot read this request'],
    ['/ssh/access#x', 400, 'The gateway cannot read this request'],
    ['/ssh/oauth/nope', 404, 'Page not found'],
    ['/ssh/sign-in/x/nope', 404, 'Page not found'],
    ['/ssh/api/access', 401, 'Sign in first'],
    ['/ssh/tcp/box/22/', 426, 'This address is for SSH'],
  ] as const) {
    it(`answers ${target} with a page to a browser, and with a problem document to a program`, async () => {
      const page = await exchange(gateway.port, head(target, browser));
      assert.equal(statusOf(page), status);
      assert.match(page, /content-type: text\/html/i);
      assert.match(page, /content-security-policy: /i);
      assert.ok(page.includes(words), page);
      const id = /x-request-id: (\S+)/i.exec(page)?.[1];
      assert.ok(id !== undefined && page.split(id).length === 3, 'the page has the id of the request too');
      for (const fields of [
        '',
        'Accept: */*\r\n',
        'Accept: application/json\r\n',
        'Accept: text/html;q=0\r\n',
      ]) {
        const problem = await exchange(gateway.port, head(target, fields));
        assert.equal(statusOf(problem), status);
        if (target !== '/ssh/access#x') assert.match(problem, /content-type: application\/problem\+json/i);
      }
    });
  }

  it('has a line in its log and a count for each request that cannot be read, with the id of the answer', async () => {
    for (const [bytes, code] of [
      ['NONSENSE\r\n\r\n', 'REQUEST_INVALID'],
      ['GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n', 'REQUEST_INVALID'],
      [`GET / HTTP/1.1\r\nHost: a\r\nA: ${'x'.repeat(20_000)}\r\n\r\n`, 'HEADERS_TOO_LARGE'],
      [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 'HEADERS_TOO_LARGE'],
    ] as const) {
      const answer = await exchange(gateway.port, bytes);
      const id = /x-request-id: (\S+)/i.exec(answer)?.[1];
      const line = gateway.lines.find(({ request }) => request === id);
      assert.deepEqual([line?.['code'], line?.['peer'], codeOf(answer)], [code, '127.0.0.1', code]);
      assert.equal(typeof line?.['reason'], 'string');
      assert.doesNotMatch(JSON.stringify(line), /xxxx|NONSENSE/);
    }
    const metrics = await gateway.gateway!.metrics.text();
    assert.match(metrics, /postern_requests_unreadable_total\{code="REQUEST_INVALID"\} 2\n/);
    assert.match(metrics, /postern_requests_unreadable_total\{code="HEADERS_TOO_LARGE"\} 2\n/);
  });

  it('answers a request without a host with the id that its log has', async () => {
    const answer = await exchange(gateway.port, 'GET /ssh/ HTTP/1.1\r\nConnection: close\r\n\r\n');
    const id = /x-request-id: (\S+)/i.exec(answer)?.[1];
    assert.deepEqual([statusOf(answer), codeOf(answer)], [400, 'REQUEST_INVALID']);
    assert.ok(gateway.lines.some(({ request }) => request === id));
  });

  it('writes no more lines than it can afford, and says how many it left out', async () => {
    const linesBefore = gateway.lines.length;
    const startedAt = performance.now();
    const sockets = await Promise.all(Array.from({ length: 400 }, () => dial(gateway.port)));
    await Promise.all(
      sockets.map(async (socket) => {
        socket.resume().end('NONSENSE\r\n\r\n');
        await once(socket, 'close');
      }),
    );
    const countOmitted = (): number =>
      gateway.lines.slice(linesBefore).reduce((sum, { omitted }) => sum + Number(omitted ?? 0), 0);
    const countWritten = (): number =>
      gateway.lines.slice(linesBefore).filter(({ request }) => request).length;
    while (countOmitted() + countWritten() < 400) await delay(50);
    assert.ok(countWritten() <= allowance(startedAt), String(countWritten()));
    assert.match(
      await gateway.gateway!.metrics.text(),
      /postern_requests_unreadable_total\{code="REQUEST_INVALID"\} 402\n/,
    );
  });

  it('the same for offers without a token', async () => {
    const linesBefore = gateway.lines.length;
    const request = upgradeHead('/ssh/tcp/box/22/', 'connect-tcp', '');
    const startedAt = performance.now();
    for (let round = 0; round < 10; round++)
      await Promise.all(Array.from({ length: 20 }, () => exchange(gateway.port, request)));
    const lines = gateway.lines.slice(linesBefore).filter(({ msg }) => msg === 'offer refused');
    assert.ok(lines.length >= 50 && lines.length <= allowance(startedAt), String(lines.length));
  });

  describe('takes an upgrade from', () => {
    // Behind this check the request is refused for its token.
    const token = 'Authorization: Bearer x\r\n';
    for (const [what, fields, code] of [
      ['its own origin with a token in a field', `Origin: https://gw.example\r\n${token}`, 'TOKEN_INVALID'],
      [
        'its own origin as a program spells it',
        `Origin: HTTPS://GW.example:443\r\n${token}`,
        'TOKEN_INVALID',
      ],
    ] as const) {
      it(what, async () => {
        const request = upgradeHead('/ssh/tcp/box/22/', 'websocket', webSocketFields + fields);
        assert.equal(codeOf(await exchange(gateway.port, request)), code);
      });
    }
    for (const [what, fields] of [
      ['its own origin without a token, as a page would send it', 'Origin: https://gw.example\r\n'],
      [
        'its own origin with a token where a page can put it',
        'Origin: https://gw.example\r\nSec-WebSocket-Protocol: postern.v1, x\r\nCookie: Authorization=x\r\n',
      ],
      ['another origin with a token', `Origin: https://evil.example\r\n${token}`],
      ['another port of its host', `Origin: https://gw.example:8443\r\n${token}`],
      ['its own host without TLS', `Origin: http://gw.example\r\n${token}`],
      ['a name that begins with its own', `Origin: https://gw.example.evil.example\r\n${token}`],
      ['an opaque origin', `Origin: null\r\n${token}`],
    ] as const) {
      it(`nothing: ${what}`, async () => {
        const fieldsOf = webSocketFields.replace(/Sec-WebSocket-Protocol[^\r]*\r\n/i, '') + fields;
        const request = upgradeHead('/ssh/tcp/box/22/', 'websocket', fieldsOf);
        assert.equal(codeOf(await exchange(gateway.port, request)), 'ORIGIN_DENIED');
      });
    }
  });
});

/** The client that the log names for a request that is refused, which comes from a proxy. */
async function clientOf(gateway: RunningGateway, forwarded: string): Promise<unknown> {
  const where = gateway.port === 0 ? { socketPath: gateway.socketFile } : { port: gateway.port };
  const asking = request({
    ...where,
    path: '/ssh/api/access',
    agent: false,
    headers: { host: 'gw.example', 'x-forwarded-for': forwarded },
  }).end();
  const [response] = (await once(asking, 'response')) as [import('node:http').IncomingMessage];
  response.resume();
  const id = response.headers['x-request-id'];
  return gateway.lines.find((line) => line['request'] === id)?.['client'];
}

describe('the client of a request', () => {
  it('follows the list of trusted proxies, also when a reload changes it', async () => {
    const gateway = await startGatewayApp();
    assert.equal(await clientOf(gateway, '203.0.113.5'), '127.0.0.1');
    await gateway.reload({ trustedProxies: ['127.0.0.0/8'] });
    assert.equal(await clientOf(gateway, '203.0.113.5'), '203.0.113.5');
    assert.equal(await clientOf(gateway, '203.0.113.5, nonsense'), '127.0.0.1');
    await gateway.reload({ trustedProxies: ['10.0.0.0/8'] });
    assert.equal(await clientOf(gateway, '203.0.113.5'), '127.0.0.1');
    await gateway.close();
  });

  it('is known on a unix socket too', async () => {
    const gateway = await startGatewayApp({ trustedProxies: ['127.0.0.0/8'] }, undefined, { isUnix: true });
    assert.equal(await clientOf(gateway, '203.0.113.5'), '203.0.113.5');
    assert.equal(await clientOf(gateway, 'nonsense'), '127.0.0.1');
    await gateway.close();
  });
});
