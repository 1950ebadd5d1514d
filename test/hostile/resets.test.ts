// SECURITY: a client that resets while the gateway thinks. One packet of an unauthenticated peer must not end the process.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  dial,
  loopbackDialer,
  oneToken,
  startParts,
  startTarget,
  tokenAuthenticator,
} from '../server/support/gateway-parts.ts';
import type { Parts } from '../server/support/gateway-parts.ts';
import { relayHead, upgradeHead, webSocketFields } from '../server/support/peers.ts';
import { eventually } from '../e2e/support/process.ts';

const thinkMs = 40;
const rounds = process.env.POSTERN_LONG ? 1000 : 15;

function requests(port: number): Record<string, string> {
  const good = 'Authorization: Bearer good\r\n';
  return {
    relay: relayHead(`localhost:${port}`, good),
    websocket: upgradeHead(`/ssh/tcp/localhost/${port}/`, 'websocket', webSocketFields + good),
    'connect-tcp': upgradeHead(`/ssh/tcp/localhost/${port}/`, 'connect-tcp', good),
    connect: `CONNECT localhost:${port} HTTP/1.1\r\nHost: localhost\r\n${good}\r\n`,
  };
}

/** What a client does when it leaves, and what it leaves in the middle of. */
const leaves: Record<string, (socket: Socket) => void> = {
  reset: (socket) => socket.resetAndDestroy(),
  end: (socket) => void socket.destroy(),
};

const stages: Record<string, (socket: Socket, request: string) => Promise<void>> = {
  'before a byte': async () => {},
  'in the request line': async (socket, request) => void socket.write(request.slice(0, 6)),
  'in a header': async (socket, request) => void socket.write(request.slice(0, -10)),
  'with the request': async (socket, request) => void socket.write(request),
  'while the gateway authenticates': async (socket, request) => {
    socket.write(request);
    await delay(thinkMs / 2);
  },
  'while the gateway dials': async (socket, request) => {
    socket.write(request);
    await delay(thinkMs * 1.5);
  },
  'with the answer': async (socket, request) => {
    socket.write(request);
    await once(socket, 'readable');
  },
  'in the middle of the bytes': async (socket, request) => {
    socket.write(request);
    for (let seen = 0; seen < 300_000;) {
      await once(socket, 'readable');
      seen += (socket.read() as Buffer | null)?.length ?? 0;
    }
  },
};

async function slowGateway(): Promise<Parts> {
  return startParts({
    // A tunnel that can be resumed is kept for a while; no client here acknowledges anything.
    relays: { keepMs: 50, windowBytes: 1024 * 1024 },
    authenticator: tokenAuthenticator(async (credentials, context) => {
      await delay(thinkMs);
      return oneToken.authenticate(credentials, context);
    }),
    dialer: {
      async dial(grant, signals) {
        await delay(thinkMs, undefined, { signal: AbortSignal.any([...signals]) });
        return loopbackDialer.dial(grant, signals);
      },
    },
  });
}

describe('a client that leaves', () => {
  for (const [how, leave] of Object.entries(leaves)) {
    for (const [stage, reach] of Object.entries(stages)) {
      it(`by ${how} ${stage} leaves nothing behind`, async () => {
        const target = await startTarget((socket) => socket.write(Buffer.alloc(2_000_000)));
        const gateway = await slowGateway();
        for (const request of Object.values(requests(target.port))) {
          await Promise.all(
            Array.from({ length: rounds }, async () => {
              const socket = await dial(gateway.port);
              socket.on('error', () => {});
              await reach(socket, request);
              leave(socket);
            }),
          );
        }
        // Every connection is gone, and with it every session.
        await eventually(async () => (await connectionsOf(gateway)) === 0, 'the end of every connection');
        await gateway.sessions.empty();
        assert.equal(gateway.sessions.count, 0);
        await gateway.close();
        target.close();
      });
    }
  }

  it('ends a process whose handler listens for nothing before it waits (the naive way)', async () => {
    const naive = `
      const server = require('node:http').createServer();
      server.on('upgrade', async (request, socket) => {
        await new Promise((resolve) => setTimeout(resolve, ${thinkMs}));
        socket.end('HTTP/1.1 403 Forbidden\\r\\n\\r\\n');
      });
      server.listen(0, '127.0.0.1', () => console.log(server.address().port));`;
    const child = spawn(process.execPath, ['-e', naive], { stdio: ['ignore', 'pipe', 'ignore'] });
    const [port] = (await once(createInterface(child.stdout), 'line')) as [string];
    const socket = connect(Number(port), '127.0.0.1');
    await once(socket, 'connect');
    socket.write(requests(1).websocket!);
    await delay(thinkMs / 4);
    socket.resetAndDestroy();
    const [code] = (await once(child, 'exit')) as [number];
    assert.equal(code, 1);
  });
});

function connectionsOf(gateway: Parts): Promise<number> {
  return new Promise((resolve, reject) => {
    gateway.server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
  });
}
