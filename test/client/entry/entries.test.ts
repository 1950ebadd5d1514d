import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import { loadEntry } from '../../../client/entry/choose.ts';
import { entryNames } from '../../../protocol/entries.ts';
import { tunnelPath } from '../../../client/entry/entry.ts';
import type { EntryName } from '../../../protocol/entries.ts';
import { answering, closedPort, listen, rawServer, readAll, tunnelRequest } from '../support.ts';
import { gatewayDouble } from './gateway-double.ts';

const never = new AbortController().signal;
const mebibyte = Buffer.alloc(1024 * 1024, 'postern ');

const problem = (code: unknown, more: object = {}): string => JSON.stringify({ status: 400, code, ...more });
const refusing = (status: number, body: string, type = 'application/problem+json'): string =>
  `HTTP/1.1 ${status} No\r\nServer: nginx/1.22.1\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
const chunked = (body: string): string =>
  `HTTP/1.1 403 No\r\nContent-Type: application/problem+json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;

/** What a server says in place of 101 or 200, and what it means. */
const answers: readonly [what: string, answer: string, code: string][] = [
  ['a denied target', refusing(403, problem('TARGET_DENIED', { detail: 'no' })), 'TARGET_DENIED'],
  ['a bad token', refusing(401, problem('TOKEN_INVALID')), 'TOKEN_INVALID'],
  ['a refused dial', refusing(502, problem('DIAL_REFUSED')), 'DIAL_REFUSED'],
  ['a refusal in chunks', chunked(problem('LIMIT_SUBJECT')), 'LIMIT_SUBJECT'],
  ['a code from the future', refusing(403, problem('MOON_PHASE')), 'HTTP_UNEXPECTED'],
  ['a code that is no text', refusing(403, problem({ a: 1 })), 'HTTP_UNEXPECTED'],
  ['a code named like a method', refusing(403, problem('constructor')), 'HTTP_UNEXPECTED'],
  ['a problem that is not JSON', refusing(403, '<html>'), 'HTTP_UNEXPECTED'],
  ['a problem that is null', refusing(400, 'null'), 'UPGRADE_REFUSED'],
  [
    'a problem of 1 MiB',
    refusing(403, problem('TARGET_DENIED', { a: 'x'.repeat(1 << 20) })),
    'HTTP_UNEXPECTED',
  ],
  ['an HTML 404', refusing(404, '<html>', 'text/html'), 'HTTP_UNEXPECTED'],
  ['a 502 of the front', refusing(502, '<html>', 'text/html'), 'HTTP_UNEXPECTED'],
  [
    'a redirect',
    'HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n',
    'HTTP_UNEXPECTED',
  ],
  ['an HTML 400', refusing(400, '<html>', 'text/html'), 'UPGRADE_REFUSED'],
  ['a 405', refusing(405, '', 'text/html'), 'UPGRADE_REFUSED'],
  ['a 426', refusing(426, '', 'text/html'), 'UPGRADE_REFUSED'],
  ['headers of 100 KiB', `HTTP/1.1 101 x\r\nX: ${'x'.repeat(100 * 1024)}\r\n\r\n`, 'HTTP_UNEXPECTED'],
  ['half an answer', 'HTTP/1.1 101 Switching Proto', 'HTTP_UNEXPECTED'],
  ['half a header', 'HTTP/1.1 101 Switching Protocols\r\nUpgr', 'HTTP_UNEXPECTED'],
  ['nothing', '', 'HTTP_UNEXPECTED'],
  ['SSH', 'SSH-2.0-OpenSSH_9.2\r\n', 'HTTP_UNEXPECTED'],
  ['noise', '\x00\xff\x1b[31m\r\n\r\n', 'HTTP_UNEXPECTED'],
];

const upgradeAnswers: typeof answers = [
  ['an HTML 200', refusing(200, '<html>', 'text/html'), 'UPGRADE_REFUSED'],
  [
    'a 101 to another protocol',
    'HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
    'UPGRADE_REFUSED',
  ],
  [
    'a 101 to two',
    'HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket, connect-tcp\r\n\r\n',
    'UPGRADE_REFUSED',
  ],
];

describe('tunnelPath()', () => {
  it('writes an IPv6 address percent-encoded', () => {
    const request = { ...tunnelRequest(1), target: { host: '2001:db8::1', port: 2222 } };
    assert.equal(tunnelPath(request), '/ssh/tcp/2001%3Adb8%3A%3A1/2222/');
  });
});

/** What each asks for. */
const urls: Readonly<Record<EntryName, string>> = {
  relay: '/ssh/v4/connect?host=box&port=22',
  websocket: '/ssh/tcp/box/22/',
  'connect-tcp': '/ssh/tcp/box/22/',
  connect: 'box:22',
  http: '/ssh/http/connect?host=box&port=22',
};

const isUpgrade = (name: EntryName): boolean => name !== 'connect' && name !== 'http';

for (const name of entryNames) {
  describe(`the ${name} entry`, () => {
    it('asks as the gateway wants it and carries bytes both ways until each side ends', async (t) => {
      let asked: IncomingMessage | undefined;
      const server = gatewayDouble((tunnel, request) => {
        asked = request;
        // The last bytes come after the client's EOF: an end of one direction must not end the other.
        void readAll(tunnel).then((bytes) => tunnel.end(bytes));
      });
      const port = await listen(t, server);
      const entry = await loadEntry(name);
      const tunnel = await entry.open(tunnelRequest(port), direct, never);
      tunnel.end(mebibyte);
      const bytes = await readAll(tunnel);
      assert.ok(bytes.equals(mebibyte));
      const authorization = asked!.headers[name === 'connect' ? 'proxy-authorization' : 'authorization'];
      assert.equal(authorization, 'Bearer t0ken');
      assert.equal(asked!.headers.host, name === 'connect' ? 'box:22' : `127.0.0.1:${port}`);
      assert.equal(asked!.url, urls[name]);
    });

    it('gets bytes that come with the head', async (t) => {
      const server = gatewayDouble((tunnel) => void tunnel.write('SSH-2.0-early\r\n'));
      const tunnel = await (
        await loadEntry(name)
      ).open(tunnelRequest(await listen(t, server)), direct, never);
      const [chunk] = (await once(tunnel, 'data')) as [Buffer];
      assert.equal(chunk.toString(), 'SSH-2.0-early\r\n');
      tunnel.on('error', () => {}).destroy();
    });

    for (const [what, answer, code] of [...answers, ...(isUpgrade(name) ? upgradeAnswers : [])]) {
      it(`says ${code} to ${what}`, async (t) => {
        const port = await listen(t, answering(answer));
        await assert.rejects((await loadEntry(name)).open(tunnelRequest(port), direct, never), { code });
      });
    }

    it('keeps the request id of a refusal', async (t) => {
      const body = problem('TARGET_DENIED', { detail: 'alice may not reach box', requestId: 'r-1' });
      const port = await listen(t, answering(refusing(403, body)));
      await assert.rejects((await loadEntry(name)).open(tunnelRequest(port), direct, never), {
        code: 'TARGET_DENIED',
        requestId: 'r-1',
        message: 'alice may not reach box',
      });
    });

    it('sends nothing of the tunnel before the answer', async (t) => {
      const seen: Buffer[] = [];
      const port = await listen(
        t,
        rawServer((socket) => {
          socket.on('data', (chunk: Buffer) => seen.push(chunk));
          setImmediate(() => socket.end(refusing(403, problem('TARGET_DENIED'))));
        }),
      );
      await assert.rejects((await loadEntry(name)).open(tunnelRequest(port), direct, never), {
        code: 'TARGET_DENIED',
      });
      assert.deepEqual(seen, []);
    });

    it('takes a reset for no answer', async (t) => {
      const port = await listen(
        t,
        rawServer((socket) => socket.resetAndDestroy()),
      );
      const opened = (await loadEntry(name)).open(tunnelRequest(port), direct, never);
      await assert.rejects(opened, { code: 'HTTP_UNEXPECTED' });
    });

    for (const [what, first] of [
      ['says nothing', ''],
      ['drips', 'HTTP/1.1 1'],
    ] as const) {
      it(`does not wait longer than allowed for a server that ${what}`, async (t) => {
        let held: Socket | undefined;
        const port = await listen(
          t,
          rawServer((socket) => {
            held = socket.resume();
            socket.write(first);
          }),
        );
        const opened = (await loadEntry(name)).open(tunnelRequest(port), direct, AbortSignal.timeout(100));
        await assert.rejects(opened, { code: 'GATEWAY_TIMEOUT' });
        if (!held!.readableEnded && !held!.destroyed) {
          await new Promise<unknown>((resolve) => held!.once('end', resolve).once('close', resolve));
        }
      });
    }

    it('reads a refusal that never ends for a bounded time', async (t) => {
      const head =
        'HTTP/1.1 403 No\r\nContent-Type: application/problem+json\r\nContent-Length: 1000\r\n\r\n{';
      const port = await listen(
        t,
        rawServer((socket) => void socket.resume().write(head)),
      );
      const opened = (await loadEntry(name)).open(tunnelRequest(port), direct, never);
      await assert.rejects(opened, { code: 'HTTP_UNEXPECTED' });
    });

    it('says when the gateway cannot be reached', async () => {
      const opened = (await loadEntry(name)).open(tunnelRequest(await closedPort()), direct, never);
      await assert.rejects(opened, { code: 'GATEWAY_UNREACHABLE' });
    });
  });
}

describe('the websocket entry, with a 101 that is not the answer to its key', () => {
  for (const [what, accept] of [
    ['a wrong', 'Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n'],
    ['no', ''],
  ] as const) {
    it(`refuses ${what} Sec-WebSocket-Accept`, async (t) => {
      const head = `HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${accept}\r\n`;
      const port = await listen(t, answering(head));
      const opened = (await loadEntry('websocket')).open(tunnelRequest(port), direct, never);
      await assert.rejects(opened, { code: 'UPGRADE_REFUSED' });
    });
  }
});

describe('the connect-tcp entry, with a 101', () => {
  const head = 'HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: connect-tcp\r\n';

  it('wants the token once', async (t) => {
    const port = await listen(t, answering(`${head}Upgrade: connect-tcp\r\n\r\n`));
    const opened = (await loadEntry('connect-tcp')).open(tunnelRequest(port), direct, never);
    await assert.rejects(opened, { code: 'UPGRADE_REFUSED' });
  });

  for (const [what, bytes] of [
    ['an end without FINAL_DATA', ''],
    ['a capsule that is cut', '\xa0\x28\xd7\xf2\x05ab'],
    ['data after the end', '\xa0\x28\xd7\xf3\x00\xa0\x28\xd7\xf2\x01a'],
  ] as const) {
    it(`takes ${what} for a lost tunnel`, async (t) => {
      const port = await listen(t, answering(`${head}\r\n${bytes}`));
      const tunnel = await (await loadEntry('connect-tcp')).open(tunnelRequest(port), direct, never);
      await assert.rejects(once(tunnel.resume(), 'close'), { name: /Error/ });
    });
  }
});
