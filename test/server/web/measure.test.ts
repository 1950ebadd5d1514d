import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import { TunnelError } from '../../../protocol/errors.ts';
import { measureRoutes } from '../../../server/web/measure.ts';
import { readProvenCredentials } from '../../../server/entry/credentials.ts';
import { loopbackContext, oneToken } from '../support/gateway-parts.ts';

interface Measured {
  readonly app: FastifyInstance;
  readonly url: string;
  readonly port: number;
}

async function measured(t: TestContext): Promise<Measured> {
  const app = fastify();
  measureRoutes(app, (request) => oneToken.authenticate(readProvenCredentials(request.raw), loopbackContext));
  app.setErrorHandler((error, _request, reply) =>
    reply
      .code(error instanceof TunnelError ? error.facts.status : 500)
      .send({ code: (error as { code?: string }).code }),
  );
  await app.listen({ port: 0, host: '127.0.0.1' });
  t.after(() => app.close());
  const { port } = app.server.address() as AddressInfo;
  return { app, port, url: `http://127.0.0.1:${port}/api/measure` };
}

const headers = { Authorization: 'Bearer good' };

describe('api/measure', () => {
  it('sends what it is asked for', async (t) => {
    const { url } = await measured(t);
    const answer = await fetch(`${url}?bytes=200000`, { headers });
    assert.equal((await answer.arrayBuffer()).byteLength, 200_001);
  });

  it('takes bytes and counts them', async (t) => {
    const { url } = await measured(t);
    const typed = { ...headers, 'Content-Type': 'application/octet-stream' };
    const answer = await fetch(url, { method: 'POST', headers: typed, body: new Uint8Array(100_000) });
    assert.deepEqual(await answer.json(), { bytes: 100_000 });
  });

  it('ends the connection of a client that sends more than its limit', async (t) => {
    const { url } = await measured(t);
    const typed = { ...headers, 'Content-Type': 'application/octet-stream' };
    const body = new Uint8Array(5 * 1024 * 1024);
    await assert.rejects(fetch(url, { method: 'POST', headers: typed, body }));
  });

  for (const query of [
    'bytes=4194305',
    'bytes=-1',
    'bytes=1e3',
    'bytes=',
    'bytes=1&bytes=2',
    'waitSeconds=301',
  ]) {
    it(`refuses ${query}`, async (t) => {
      const { url } = await measured(t);
      assert.equal((await fetch(`${url}?${query}`, { headers })).status, 400);
    });
  }

  for (const method of ['GET', 'POST']) {
    it(`is for authenticated callers (${method})`, async (t) => {
      const { url } = await measured(t);
      assert.equal((await fetch(`${url}?bytes=1`, { method })).status, 401);
    });
  }

  it('sends one byte before a silence, which ends with the server', async (t) => {
    const { app, port } = await measured(t);
    const socket = connect({ port, host: '127.0.0.1' });
    socket.write(
      `GET /api/measure?waitSeconds=300&bytes=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n`,
    );
    let text = '';
    while (!text.endsWith('\r\n\r\n.')) text += String(((await once(socket, 'data')) as [Buffer])[0]);
    assert.match(text, /Content-Length: 2\r\n/);
    const closed = once(socket, 'close');
    await app.close();
    await closed;
  });

  it('lets only so many be silent at a time', async (t) => {
    const { port, url } = await measured(t);
    const sockets = await Promise.all(
      Array.from({ length: 64 }, async () => {
        const socket = connect({ port, host: '127.0.0.1' });
        t.after(() => socket.destroy());
        socket.write(
          `GET /api/measure?waitSeconds=300 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n`,
        );
        await once(socket, 'data');
        return socket;
      }),
    );
    assert.equal((await fetch(url, { headers })).status, 503);
    const gone = sockets.map((socket) => once(socket, 'close'));
    for (const socket of sockets) socket.destroy();
    await Promise.all(gone);
    // The server learns of it in its own time.
    for (;;) if ((await fetch(url, { headers })).status === 200) break;
  });
});
