import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import { before, describe, it } from 'node:test';
import { findProgram, needs } from '../support/needs.ts';
import { makeCertificates, type Certificates } from '../support/certificates.ts';
import { freePort, run } from '../support/process.ts';
import { startFront, type FrontName } from '../support/proxies.ts';
import { openScratch } from '../support/scratch.ts';
import { patient } from '../../support/slowness.ts';

const scratch = openScratch();

/** What the web proxy made of a request: the head as the gateway would get it. */
interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

function seen({ method, url, headers }: IncomingMessage): string {
  return JSON.stringify({ method, url, headers });
}

/** Stands where the gateway is, accepts everything, and answers with what it saw. */
function standIn(): ReturnType<typeof createServer> {
  const server = createServer((request, response) => response.end(seen(request)));
  server.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
    socket.on('error', () => {});
    const head = [
      'HTTP/1.1 101 Switching Protocols',
      'Connection: Upgrade',
      `Upgrade: ${request.headers.upgrade}`,
    ];
    // HAProxy wants to see this field.
    if (request.headers['sec-websocket-key']) head.push('Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
    socket.end(`${head.join('\r\n')}\r\n\r\n${seen(request)}`);
  });
  server.on('connect', (request: IncomingMessage, socket: Duplex) => {
    socket.on('error', () => {});
    socket.end(`HTTP/1.1 200 OK\r\n\r\n${seen(request)}`);
  });
  return server;
}

// What PROTOCOLS knows of each: whether CONNECT comes through, or how it is refused.
const connectAnswers = { nginx: 400, haproxy: 200, apache: 405, caddy: 404 } as const;
const programs = { nginx: 'nginx', haproxy: 'haproxy', apache: 'apache2', caddy: 'caddy' } as const;

for (const name of Object.keys(programs) as FrontName[]) {
  describe(`the file we ship for ${name}`, needs(programs[name], 'openssl'), () => {
    let certificates: Certificates;
    let port: number;

    before(async () => {
      certificates = await makeCertificates(scratch);
      const gateway = standIn();
      const upstreamPort = await freePort();
      await new Promise<void>((resolve) => gateway.listen(upstreamPort, '127.0.0.1', () => resolve()));
      scratch.onEnd(() => {
        gateway.close();
        gateway.closeAllConnections();
      });
      port = await freePort();
      await startFront(scratch, name, { certificates, port, upstreamPort });
    });

    const ask = (head: readonly string[]): Promise<{ status: number; seen?: Seen }> =>
      new Promise((resolve, reject) => {
        const ca = readFileSync(certificates.authorityFile);
        const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', ca });
        const chunks: Buffer[] = [];
        const finish = (): void => {
          const answer = Buffer.concat(chunks).toString();
          const status = Number(/^HTTP\/1\.[01] (\d+)/.exec(answer)?.[1]);
          const body = /^\{.*\}/m.exec(answer)?.[0];
          resolve({ status, ...(body === undefined ? {} : { seen: JSON.parse(body) as Seen }) });
        };
        socket.on('data', (chunk: Buffer) => chunks.push(chunk));
        socket.on('error', reject);
        const limitMs = patient(5000);
        socket.setTimeout(limitMs, () => socket.destroy(new Error(`no answer within ${limitMs} ms`)));
        socket.on('close', finish);
        socket.write(`${head.join('\r\n')}\r\n\r\n`);
      });

    const upgrade = (token: string, path: string, ...headers: string[]): readonly string[] => [
      `GET ${path} HTTP/1.1`,
      `Host: localhost:${port}`,
      // An ordinary answer ends the connection, an upgrade needs the other word.
      'Connection: Upgrade',
      `Upgrade: ${token}`,
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      'Sec-WebSocket-Version: 13',
      ...headers,
    ];

    for (const token of ['websocket', 'WebSocket', 'connect-tcp', 'connect-tcp-07', 'connect-tcp-12']) {
      it(`forwards Upgrade: ${token}`, async () => {
        const { status, seen } = await ask(upgrade(token, '/ssh/tcp/box/22/'));
        assert.equal(status, 101);
        assert.equal(seen?.headers['upgrade']?.toLowerCase(), token.toLowerCase());
      });
    }

    for (const token of ['h2c', 'connect-tcp-05', 'websocket, h2c', 'websocketx', 'TLS/1.2']) {
      it(`forwards no upgrade to ${token}`, async () => {
        const { status, seen } = await ask(upgrade(token, '/ssh/tcp/box/22/', 'Connection: close'));
        assert.notEqual(status, 101);
        assert.equal(seen?.headers['upgrade'], undefined);
      });
    }

    for (const path of [
      '/ssh/tcp/2001%3Adb8%3A%3A1/22/',
      '/.well-known/masque/tcp/box%2Fx/22/',
      '/ssh/tcp/BOX/22?a=%20',
    ]) {
      it(`forwards the path ${path} as it was written`, async () => {
        assert.equal((await ask(upgrade('connect-tcp', path))).seen?.url, path);
      });
    }

    it('replaces what a client says about its own address', async () => {
      const lies = [
        'X-Forwarded-For: 6.6.6.6',
        'X-Forwarded-For: 7.7.7.7',
        'X-Forwarded-Proto: gopher',
        'Forwarded: for=6.6.6.6',
      ];
      const { seen } = await ask(upgrade('websocket', '/ssh/tcp/box/22/', ...lies));
      assert.equal(seen?.headers['x-forwarded-for'], '127.0.0.1');
      assert.equal(seen?.headers['x-forwarded-proto'], 'https');
      assert.equal(seen?.headers['forwarded'], undefined);
      assert.equal(seen?.headers['host'], `localhost:${port}`);
    });

    it('forwards a token of 8 KiB', async () => {
      const token = 'x'.repeat(8192);
      const { seen } = await ask(upgrade('websocket', '/ssh/tcp/box/22/', `Authorization: Bearer ${token}`));
      assert.equal(seen?.headers['authorization'], `Bearer ${token}`);
    });

    it('forwards nothing outside the prefix', async () => {
      const { status, seen } = await ask([
        `GET /other HTTP/1.1`,
        `Host: localhost:${port}`,
        'Connection: close',
      ]);
      assert.deepEqual([status, seen], [404, undefined]);
    });

    for (const version of ['1.0', '1.1']) {
      it(`answers ${connectAnswers[name]} to CONNECT in HTTP/${version}`, async () => {
        const { status, seen } = await ask([
          `CONNECT box:22 HTTP/${version}`,
          'Host: box:22',
          'Connection: close',
        ]);
        assert.equal(status, connectAnswers[name]);
        assert.equal(seen?.url, status === 200 ? 'box:22' : undefined);
      });
    }
  });
}

describe(
  'the systemd units we ship',
  { skip: findProgram('systemd-analyze') ? false : 'no systemd-analyze' },
  () => {
    it('are valid, and leave the gateway little to do harm with', async () => {
      const unit = new URL('../../../deploy/postern-gateway.service', import.meta.url).pathname;
      const { stdout } = await run(['systemd-analyze', 'security', '--offline=yes', '--threshold=20', unit]);
      const level = Number(/Overall exposure level for .*: ([\d.]+)/.exec(stdout.toString())?.[1]);
      assert.ok(level <= 1.5, `exposure level ${level}`);
      const { stderr } = await run(['systemd-analyze', 'verify', unit, unit.replace(/service$/, 'socket')]);
      const complaints = stderr
        .toString()
        .split('\n')
        .filter((line) => line && !line.includes('is not executable'));
      assert.deepEqual(complaints, []);
    });
  },
);
