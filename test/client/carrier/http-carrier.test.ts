import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import { http } from '../../../client/entry/resumable.ts';
import { Secret } from '../../../protocol/secret.ts';
import { startEcho, startParts } from '../../server/support/gateway-parts.ts';
import type { Parts } from '../../server/support/gateway-parts.ts';
import { listen } from '../support.ts';

/** How something on the way passes an answer on. */
type Pass = (from: IncomingMessage, to: ServerResponse) => void | Promise<void>;

const asItComes: Pass = (from, to) => void from.pipe(to);

const whenWhole: Pass = async (from, to) => {
  const body = await buffer(from);
  if (!to.destroyed) to.end(body);
};

/** The first bytes take longer than a second, and the rest as long as they do. */
const slowly: Pass = async (from, to) => {
  from.pause();
  await delay(1500);
  from.pipe(to);
};

describe('HttpCarrier of the client', () => {
  let parts: Parts;
  let echo: { port: number; close(): void };
  before(async () => {
    parts = await startParts();
    echo = await startEcho();
  });
  after(async () => {
    echo.close();
    await parts.close();
  });

  /** A tunnel through a proxy that passes the answers to `down` on in a way of its own. */
  async function open(t: TestContext, pass: Pass) {
    const ways: string[] = [];
    const proxy = forwarding(parts.port, (request, from, to) => {
      const [, way = ''] = /\/http\/(\w+)/.exec(request.url!) ?? [];
      if (way !== 'up') ways.push(way);
      void (way === 'down' ? pass : asItComes)(from, to);
    });
    const port = await listen(t, proxy);
    const request = {
      gateway: new URL(`http://127.0.0.1:${port}/ssh/`),
      target: { host: '127.0.0.1', port: echo.port },
      token: new Secret('good'),
      isPinned: true,
    };
    const heldBack = Promise.withResolvers<void>();
    let isHeldBack = false;
    const note = { recall: () => isHeldBack, keep: () => heldBack.resolve(void (isHeldBack = true)) };
    const later = {
      withCredential: <T>(_: AbortSignal, use: (pass: typeof request) => T) => use(request),
      warn() {},
    };
    const again = async (): Promise<Duplex> => {
      const tunnel = await http.open(
        { ...request, later: { ...later, isBuffered: note } },
        direct,
        AbortSignal.timeout(10_000),
      );
      t.after(() => tunnel.destroy());
      return tunnel;
    };
    return { tunnel: await again(), again, ways, heldBack: heldBack.promise, known: () => isHeldBack };
  }

  it('asks for one answer after another where they come as they are written', async (t) => {
    const { tunnel, ways } = await open(t, asItComes);
    tunnel.end('hello');
    assert.equal((await buffer(tunnel)).toString(), 'hello');
    assert.deepEqual(ways, ['connect', 'down']);
  });

  it('asks for brief answers where something keeps them until they are whole, and the next one at once', async (t) => {
    const { tunnel, again, ways, heldBack } = await open(t, whenWhole);
    tunnel.write('hello');
    assert.equal(String((await once(tunnel, 'data'))[0]), 'hello');
    await heldBack;
    tunnel.write('again');
    assert.equal(String((await once(tunnel, 'data'))[0]), 'again');
    assert.deepEqual(ways.slice(0, 3), ['connect', 'down', 'brief']);
    ways.length = 0;
    const next = await again();
    next.write('hello');
    assert.equal(String((await once(next, 'data'))[0]), 'hello');
    assert.ok(!ways.includes('down'));
  });

  it('does not take a slow network for one that holds answers back', async (t) => {
    const { tunnel, ways, known } = await open(t, slowly);
    tunnel.write('hello');
    assert.equal(String((await once(tunnel, 'data'))[0]), 'hello');
    assert.ok(!known(), ways.join());
  });
});

/** A web proxy of a few lines, because no real one is slow in just this way. */
function forwarding(
  port: number,
  answer: (request: IncomingMessage, from: IncomingMessage, to: ServerResponse) => void,
): Server {
  return createServer((request, response) => {
    const { method, url: path, headers } = request;
    const asking = httpRequest({ port, host: '127.0.0.1', method, path, headers }, (from) => {
      response.writeHead(from.statusCode!, from.headers);
      answer(request, from, response);
    });
    asking.on('error', () => response.destroy());
    response.on('close', () => asking.destroy());
    request.pipe(asking);
  });
}
