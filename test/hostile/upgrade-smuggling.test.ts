// SECURITY: upgrades that a proxy and we could understand differently, each with a request hidden behind it that the
// proxy would never forward. Nothing is upgraded, and what is hidden reaches no server.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { makeCertificates } from '../e2e/support/certificates.ts';
import type { Certificates } from '../e2e/support/certificates.ts';
import { needs } from '../e2e/support/needs.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { dial, startEcho, startParts, statusOf } from '../server/support/gateway-parts.ts';
import type { Parts } from '../server/support/gateway-parts.ts';
import { webSocketFields } from '../server/support/peers.ts';
import { FrontClient, startVariant } from './support/fronts.ts';
import type { Variant } from './support/fronts.ts';

const scratch = openScratch();
const good = 'Authorization: Bearer good\r\n';

let port = 0;
const path = (): string => `/ssh/tcp/localhost/${port}/`;

interface Shape {
  readonly method?: string;
  readonly version?: string;
  readonly connection?: string;
  readonly fields: string;
  readonly body?: string;
}

/** Heads of which none is a request for a tunnel, though each has a good token and a target that would answer. */
const shapes: Readonly<Record<string, Shape>> = {
  h2c: {
    connection: 'Upgrade, HTTP2-Settings',
    fields: `Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n${good}`,
  },
  'h2c first of two': { fields: `Upgrade: h2c, websocket\r\n${webSocketFields}${good}` },
  'h2c second of two': { fields: `Upgrade: websocket, h2c\r\n${webSocketFields}${good}` },
  'h2c in a field of its own': { fields: `Upgrade: websocket\r\nUpgrade: h2c\r\n${webSocketFields}${good}` },
  'connect-tcp in a field of its own': { fields: `Upgrade: h2c\r\nUpgrade: connect-tcp\r\n${good}` },
  'a version of the token': { fields: `Upgrade: websocket/13\r\n${webSocketFields}${good}` },
  'a token of another draft': { fields: `Upgrade: connect-tcp-99\r\n${good}` },
  'a quoted token': { fields: `Upgrade: "websocket"\r\n${webSocketFields}${good}` },
  'no WebSocket key': { fields: `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n${good}` },
  'a WebSocket key that is too short': {
    fields: `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n${good}`,
  },
  'WebSocket version 777': {
    fields: `Upgrade: websocket\r\n${webSocketFields.replace(': 13', ': 777')}${good}`,
  },
  'no WebSocket version': {
    fields: `Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${good}`,
  },
  POST: { method: 'POST', fields: `Upgrade: connect-tcp\r\nContent-Length: 0\r\n${good}` },
  'a body': { fields: `Upgrade: connect-tcp\r\nContent-Length: 5\r\n${good}`, body: 'hello' },
  chunks: { fields: `Upgrade: connect-tcp\r\nTransfer-Encoding: chunked\r\n${good}`, body: '0\r\n\r\n' },
  'a body shorter than it says': {
    fields: `Upgrade: connect-tcp\r\nContent-Length: 200\r\n${good}`,
    body: 'hello',
  },
  'Connection without Upgrade': { connection: 'keep-alive', fields: `Upgrade: h2c\r\n${good}` },
  'HTTP/1.0': { version: '1.0', fields: `Upgrade: connect-tcp\r\n` },
  'no token': { fields: 'Upgrade: connect-tcp\r\n' },
  'a bad token': { fields: `Upgrade: websocket\r\n${webSocketFields}Authorization: Bearer bad\r\n` },
};

function write({
  method = 'GET',
  version = '1.1',
  connection = 'Upgrade',
  fields,
  body = '',
}: Shape): string {
  const line = `${method} ${path()} HTTP/${version}\r\nHost: localhost\r\n`;
  return `${line}Connection: ${connection}\r\n${fields}\r\n${body}`;
}

const hidden = 'GET /admin/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n';

describe('an upgrade that is none', needs('nginx', 'haproxy', 'openssl'), () => {
  let certificates: Certificates;
  let gateway: Parts;
  const seen: string[] = [];
  let echo: Awaited<ReturnType<typeof startEcho>>;
  before(async () => {
    certificates = await makeCertificates(scratch);
    echo = await startEcho();
    port = echo.port;
    gateway = await startParts();
    gateway.server.removeAllListeners('request');
    gateway.server.on('request', (request, response) => {
      seen.push(`${request.method} ${request.url}`);
      response.statusCode = 426;
      response.end('no\n');
    });
  });
  after(async () => {
    echo.close();
    await gateway.close();
  });

  for (const [what, shape] of Object.entries(shapes)) {
    for (const late of [false, true]) {
      const when = late ? 'after the answer' : 'with it';
      it(`is answered once, and nothing ${when} is read: ${what}, direct`, async () => {
        seen.length = 0;
        const socket = await dial(gateway.port);
        socket.on('error', () => {});
        let answer = '';
        socket.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
        const closed = new Promise((resolve) => socket.once('close', resolve));
        socket.write(write(shape) + (late ? '' : hidden));
        if (late) {
          await Promise.race([new Promise((resolve) => socket.once('data', resolve)), delay(500)]);
          socket.write(hidden);
        }
        socket.end();
        await Promise.race([closed, delay(3000, undefined, { ref: false })]);
        socket.destroy();
        // Without the word Upgrade in Connection it is an ordinary request, and so is what follows it.
        if (shape.connection === 'keep-alive') return;
        assert.equal(answer.match(/HTTP\/1\.1 /g)?.length, 1, answer);
        assert.ok([400, 401].includes(statusOf(answer)), answer);
        assert.deepEqual(seen, []);
      });
    }
  }

  for (const variant of [
    'nginx',
    'nginx that reuses',
    'haproxy',
    'haproxy that reuses always',
  ] as Variant[]) {
    it(`lets nothing past ${variant}`, async () => {
      const front = await startVariant(scratch, variant, { certificates, upstreamPort: gateway.port });
      seen.length = 0;
      await Promise.all(
        Object.entries(shapes).flatMap(([what, shape]) =>
          [false, true].map(async (late) => {
            const client = new FrontClient(front);
            const answer = await Promise.race([
              client.ask(write(shape) + (late ? '' : hidden)),
              delay(500, '', { ref: false }),
            ]);
            if (late && !client.closed) void client.ask(hidden + hidden);
            const rest = await client.rest(700);
            // nginx takes the first of two fields and forwards that one only: both sides understand `websocket`.
            if (variant.startsWith('nginx') && what === 'h2c in a field of its own') return;
            assert.doesNotMatch(`${answer ?? ''}${rest}`, /HTTP\/1\.1 101 /, what);
          }),
        ),
      );
      assert.deepEqual(
        seen.filter((line) => !line.endsWith(path())),
        [],
      );
      await gateway.sessions.empty();
    });
  }
});
