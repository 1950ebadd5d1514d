import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { openLoopback } from '../../../client/login/loopback-server.ts';
import type { Loopback } from '../../../client/login/loopback-server.ts';
import { readAll } from '../support.ts';

async function open(t: TestContext): Promise<Loopback> {
  const loopback = await openLoopback();
  t.after(() => loopback.close());
  return loopback;
}

interface Shown {
  readonly status: number | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
}

async function get(url: string, options: { method?: string; host?: string } = {}): Promise<Shown> {
  const { method = 'GET', host } = options;
  const asked = request(url, { method, ...(host === undefined ? {} : { headers: { Host: host } }) }).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return {
    status: response.statusCode,
    headers: response.headers,
    text: (await readAll(response)).toString(),
  };
}

describe('openLoopback()', () => {
  it('listens on a loopback address, at a path of 256 bits, another one each time', async (t) => {
    const [first, second] = [await open(t), await open(t)];
    assert.match(first.redirectUri, /^http:\/\/127\.0\.0\.1:\d+\/[\w-]{43}$/);
    assert.notEqual(new URL(first.redirectUri).pathname, new URL(second.redirectUri).pathname);
  });

  for (const page of ['done', 'failed'] as const) {
    it(`gives what the browser brought, and shows that it is ${page}`, async (t) => {
      const loopback = await open(t);
      const arriving = loopback.arrival(t.signal);
      const shown = get(`${loopback.redirectUri}?code=c&state=s`);
      const arrival = await arriving;
      assert.equal(arrival.parameters.toString(), 'code=c&state=s');
      await arrival.show(page);
      const { status, headers, text } = await shown;
      assert.equal(status, 200);
      assert.match(text, /<html lang="en">.*terminal/s);
      assert.match(String(headers['content-security-policy']), /default-src 'none'.*frame-ancestors 'none'/);
      assert.deepEqual([headers['cache-control'], headers['referrer-policy']], ['no-store', 'no-referrer']);
      assert.doesNotMatch(text, /code|<script|https?:/);
    });
  }

  it('takes one arrival and no second', async (t) => {
    const loopback = await open(t);
    const arriving = loopback.arrival(t.signal);
    const first = get(`${loopback.redirectUri}?code=mine`);
    const arrived = await arriving;
    assert.equal((await get(`${loopback.redirectUri}?code=theirs`)).status, 410);
    await arrived.show('done');
    assert.equal((await first).status, 200);
    assert.equal(arrived.parameters.get('code'), 'mine');
  });

  it('is not moved by anything else', async (t) => {
    const loopback = await open(t);
    let arrived = false;
    void loopback.arrival(t.signal).then(
      () => (arrived = true),
      () => {},
    );
    const { redirectUri } = loopback;
    const { origin, port } = new URL(redirectUri);
    for (const [url, options] of [
      [`${origin}/?code=x`, {}],
      [`${origin}/favicon.ico`, {}],
      [`${redirectUri}/?code=x`, {}],
      [`${redirectUri.slice(0, -1)}?code=x`, {}],
      [`${redirectUri}x?code=x`, {}],
      [redirectUri, { method: 'POST' }],
      [redirectUri, { method: 'HEAD' }],
      [redirectUri, { host: 'evil.example' }],
      [redirectUri, { host: `localhost:${port}` }],
      [redirectUri, { host: '127.0.0.1' }],
      [redirectUri, { host: `evil.example@127.0.0.1:${port}` }],
    ] as const) {
      const { status, text } = await get(url, options);
      assert.deepEqual([status, text], [404, ''], `${url} ${JSON.stringify(options)}`);
    }
    assert.equal(arrived, false);
  });

  for (const bytes of [
    'GET / HTTP/1.1\r\n\r\n',
    'x\r\n\r\n',
    `GET /${'a'.repeat(20_000)} HTTP/1.1\r\n\r\n`,
    'GET // HTTP/1.1\r\nHost: x\r\n\r\n',
  ]) {
    it(`survives ${JSON.stringify(bytes.slice(0, 20))}`, async (t) => {
      const loopback = await open(t);
      const socket = connect(Number(new URL(loopback.redirectUri).port), '127.0.0.1');
      socket.on('error', () => {});
      socket.write(bytes);
      assert.match((await readAll(socket)).toString(), /^HTTP\/1\.1 4/);
    });
  }

  it('gives up when it is told to', async (t) => {
    const loopback = await open(t);
    await assert.rejects(loopback.arrival(AbortSignal.abort(new Error('enough'))), /enough/);
  });

  it('is gone when it is closed, whoever is connected', async () => {
    const loopback = await openLoopback();
    const socket = connect(Number(new URL(loopback.redirectUri).port), '127.0.0.1');
    await once(socket, 'connect');
    loopback.close();
    await once(socket.resume(), 'close');
    await assert.rejects(get(loopback.redirectUri), { code: 'ECONNREFUSED' });
  });
});
