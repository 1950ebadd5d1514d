// SECURITY: clients that hold a connection and send little or nothing. They are cut off in time, and an honest client does
// not notice them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { makeCertificates } from '../e2e/support/certificates.ts';
import type { Certificates } from '../e2e/support/certificates.ts';
import { startGateway } from '../e2e/support/gateway.ts';
import type { Gateway } from '../e2e/support/gateway.ts';
import { needs } from '../e2e/support/needs.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { listen } from '../e2e/support/world.ts';
import { readHead } from '../server/support/gateway-parts.ts';
import { upgradeHead } from '../server/support/peers.ts';
import { patient } from '../support/slowness.ts';

const scratch = openScratch();
const each = process.env.POSTERN_LONG ? 1000 : 150;
const preAuthSeconds = 2;
/** Node looks for slow connections every 2 s; the rest is for a machine that is busy. */
const patienceMs = (preAuthSeconds + 2 + 3) * 1000;

const request = upgradeHead('/ssh/tcp/box/22/', 'connect-tcp');

/** What they do; each gets a connection of its own, and gives back what stops it. */
const slowness: Readonly<Record<string, (socket: Socket) => void>> = {
  'say nothing': () => {},
  'say one byte': (socket) => void socket.write('G'),
  'say a header now and then': (socket) => drip(socket, request.slice(0, -2), 'X-a: b\r\n'),
  'say a byte now and then': (socket) => drip(socket, 'GET /ssh/ HTTP/1.1\r\nX: ', 'a'),
  'announce a body that drips': (socket) =>
    drip(socket, 'POST /ssh/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n', 'a'),
  'announce a chunked body that drips': (socket) =>
    drip(socket, 'POST /ssh/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n', '1\r\na\r\n'),
  'announce a body for an upgrade': (socket) =>
    drip(socket, upgradeHead('/ssh/tcp/box/22/', 'connect-tcp', 'Content-Length: 100000\r\n'), 'a'),
  'are refused and stay': (socket) => void socket.pause().write(request),
};

function drip(socket: Socket, first: string, next: string): void {
  socket.write(first);
  const timer = setInterval(() => socket.write(next), 300);
  socket.once('close', () => clearInterval(timer));
}

async function open(port: number, tls: boolean): Promise<Socket> {
  const socket = tls
    ? connectTls({ port, host: '127.0.0.1', servername: 'localhost', rejectUnauthorized: false })
    : connectTcp({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  await once(socket, tls ? 'secureConnect' : 'connect');
  return socket;
}

/** Whether the other side leaves the connection open for too long. */
async function outlasts(socket: Socket): Promise<boolean> {
  const closed = new Promise<boolean>((resolve) => {
    socket.once('close', () => resolve(false));
    socket.once('end', () => resolve(false));
  });
  socket.resume();
  const how = await Promise.race([closed, delay(patient(patienceMs), true, { ref: false })]);
  socket.destroy();
  return how;
}

async function honest(port: number, tls: boolean, bearer: string): Promise<number> {
  const began = performance.now();
  const socket = await open(port, tls);
  socket.write(upgradeHead('/ssh/tcp/box/22/', 'connect-tcp', `Authorization: Bearer ${bearer}\r\n`));
  assert.match(await readHead(socket), /^HTTP\/1\.1 101 /);
  socket.destroy();
  return performance.now() - began;
}

describe('clients that are slow', needs('openssl'), () => {
  let certificates: Certificates;
  let plain: Gateway;
  let overTls: Gateway;
  let token: string;
  let tlsToken: string;
  before(async () => {
    certificates = await makeCertificates(scratch);
    const target = await listen(scratch, (socket) => socket.pipe(socket));
    const settings = { limits: { preAuthSeconds } };
    const targets = { box: `127.0.0.1:${target}` };
    plain = await startGateway(scratch, { targets, settings });
    overTls = await startGateway(scratch, { targets, settings, tls: certificates });
    token = readFileSync(plain.tokenFile, 'utf8').trim();
    tlsToken = readFileSync(overTls.tokenFile, 'utf8').trim();
  });

  it('are all gone in time, and honest ones get in meanwhile', async () => {
    const count = Math.ceil(each / Object.keys(slowness).length);
    const held: { what: string; lasted: Promise<boolean> }[] = [];
    const hold = async (
      what: string,
      port: number,
      tls: boolean,
      act: (socket: Socket) => void,
    ): Promise<void> => {
      const socket = await open(port, tls);
      act(socket);
      held.push({ what, lasted: outlasts(socket) });
    };
    for (const [what, act] of Object.entries(slowness)) {
      for (let at = 0; at < count; at++) {
        await hold(what, plain.port, false, act);
        await hold(`${what} over TLS`, overTls.port, true, act);
      }
    }
    for (let at = 0; at < each; at++) {
      await hold('withhold TLS', overTls.port, false, () => {});
      await hold('withhold the rest of TLS', overTls.port, false, (socket) =>
        socket.write(Buffer.from([22, 3, 1, 2])),
      );
      await hold('drip TLS', overTls.port, false, (socket) => drip(socket, '\x16\x03\x01\x02\x00', '\x01'));
    }
    const honestMs: number[] = [];
    for (let at = 0; at < 10; at++) {
      honestMs.push(await honest(plain.port, false, token), await honest(overTls.port, true, tlsToken));
    }
    const left = await Promise.all(held.map(async ({ what, lasted }) => ((await lasted) ? what : undefined)));
    assert.deepEqual([...new Set(left.filter((what) => what !== undefined))], []);
    assert.ok(Math.max(...honestMs) < patient(1000), `an honest client waited ${Math.max(...honestMs)} ms`);
    // Nothing of them stays in the gateway either.
    await honest(plain.port, false, token);
    await honest(overTls.port, true, tlsToken);
  });
});
