// SECURITY: a caller that only holds connections keeps no other out, with the gateway as its own edge.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { before, describe, it } from 'node:test';
import { makeCertificates } from '../e2e/support/certificates.ts';
import { startGateway } from '../e2e/support/gateway.ts';
import type { Gateway } from '../e2e/support/gateway.ts';
import { needs } from '../e2e/support/needs.ts';
import { eventually } from '../e2e/support/process.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { readHead, startEcho } from '../server/support/gateway-parts.ts';

/** All open files of the gateway; half of nine tenths are for callers. */
const openFiles = 400;
const silent = 600;

for (const workers of [1, 2])
  describe(
    `a gateway with ${openFiles} open files and ${workers} processes`,
    needs('prlimit', 'openssl'),
    () => {
      const scratch = openScratch();
      let gateway: Gateway;
      let ca: Buffer;
      const held: Socket[] = [];

      before(async () => {
        const [certificates, echo] = [await makeCertificates(scratch), await startEcho()];
        ca = readFileSync(certificates.authorityFile);
        gateway = await startGateway(scratch, {
          under: ['prlimit', `--nofile=${openFiles}:${openFiles}`],
          targets: { echo: `127.0.0.1:${echo.port}` },
          tls: certificates,
          settings: {
            trustedProxies: [],
            workers,
            limits: { graceSeconds: 0, preAuthSeconds: 20, connectionsPerAddress: 50 },
          },
        });
        scratch.onEnd(() => {
          echo.close();
          for (const socket of held) socket.destroy();
        });
      });

      function dial(localAddress: string): Socket {
        const socket = connect({ host: '127.0.0.1', port: gateway.port, localAddress });
        socket.on('error', () => {});
        held.push(socket);
        return socket;
      }

      async function request(
        localAddress: string,
        head: string,
      ): Promise<{ socket: TLSSocket; answer: string }> {
        const socket = connectTls({ socket: dial(localAddress), ca, servername: 'localhost' });
        socket.on('error', () => {});
        held.push(socket);
        socket.write(`${head}\r\nHost: localhost:${gateway.port}\r\n\r\n`);
        return { socket, answer: await readHead(socket) };
      }

      function discovery(localAddress: string): Promise<{ socket: TLSSocket; answer: string }> {
        return request(localAddress, 'GET /ssh/.well-known/postern HTTP/1.1');
      }

      async function admin(path: string): Promise<string> {
        const answer = await fetch(`http://127.0.0.1:${gateway.adminPort}${path}`, {
          headers: { connection: 'close' },
        });
        assert.equal(answer.status, 200);
        return answer.text();
      }

      async function assertServes(): Promise<void> {
        for (const from of ['127.0.0.1', '127.0.0.200']) {
          const { socket, answer } = await discovery(from);
          assert.match(answer, / 200 /);
          socket.destroy();
        }
        assert.match(await admin('/readyz'), /^ready\n/);
      }

      it('serves all callers, and keeps its tunnels, whatever number of silent connections is opened', async () => {
        const token = readFileSync(gateway.tokenFile, 'utf8').trim();
        const tunnel = await request(
          '127.0.0.1',
          `CONNECT echo:22 HTTP/1.1\r\nProxy-Authorization: Bearer ${token}`,
        );
        assert.match(tunnel.answer, / 200 /);
        // Of one address, and then of many.
        for (const addressOf of [() => '127.0.0.1', (at: number) => `127.0.1.${at % 250}`]) {
          const sockets = Array.from({ length: silent }, (_, at) => dial(addressOf(at)));
          await Promise.all(sockets.map((socket) => once(socket, 'connect')));
          await assertServes();
        }
        const text = await admin('/metrics');
        for (const limit of ['address', 'total'])
          assert.match(
            text,
            new RegExp(`^postern_connections_refused_total\\{limit="${limit}"\\} [1-9]`, 'm'),
          );
        assert.ok(Number(/^postern_connections (\d+)$/m.exec(text)![1]) <= (workers * openFiles) / 2);
        assert.match(gateway.running.log(), /too many connections/);
        const echoed = once(tunnel.socket, 'data') as Promise<[Buffer]>;
        tunnel.socket.write('still here');
        assert.equal(String((await echoed)[0]), 'still here');
      });

      it(
        'closes connections that wait for another request after some seconds',
        { skip: workers > 1 },
        async () => {
          const { socket } = await discovery('127.0.0.201');
          socket.resume();
          await eventually(() => socket.closed || socket.readableEnded, 'the end of the connection', 20_000);
        },
      );
    },
  );
