import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, NetConnectOpts, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { bridge } from '../../stream/bridge.ts';
import type { BridgeEnd } from '../../stream/bridge.ts';

const never = new AbortController().signal;
/** Several looks at the connections. */
const severalChecksMs = 6000;

/** Both ends of a connection. */
interface Connection {
  /** The end of the peer. */
  readonly peer: Socket;
  /** Our end. */
  readonly ours: Socket;
}

const opened: Socket[] = [];
const servers: Server[] = [];

async function openConnection(path?: string): Promise<Connection> {
  const server = createServer({ allowHalfOpen: true });
  servers.push(server);
  server.listen(path === undefined ? { host: '127.0.0.1', port: 0 } : { path });
  await once(server, 'listening');
  const where: NetConnectOpts =
    path === undefined ? { host: '127.0.0.1', port: (server.address() as AddressInfo).port } : { path };
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const peer = connect({ ...where, allowHalfOpen: true });
  const [ours] = await accepted;
  opened.push(peer, ours);
  for (const socket of [peer, ours]) socket.on('error', () => {});
  return { peer, ours };
}

interface Tunnel {
  readonly client: Socket;
  readonly target: Socket;
  readonly end: Promise<BridgeEnd>;
}

async function openTunnel(clientPath?: string): Promise<Tunnel> {
  const [client, target] = [await openConnection(clientPath), await openConnection()];
  return { client: client.peer, target: target.peer, end: bridge(client.ours, target.ours, never) };
}

/** Ends a direction, and waits until the other end of the tunnel has read that. */
async function halfClose(from: Socket, to: Socket): Promise<void> {
  const ended = once(to.resume(), 'end');
  from.end();
  await ended;
}

describe('a peer that is gone after its FIN', { concurrency: true }, () => {
  after(() => {
    for (const socket of opened) socket.destroy();
    for (const server of servers) server.close();
  });

  it('is noticed when it was the client, and the target is silent', async () => {
    const { client, target, end } = await openTunnel();
    await halfClose(client, target);
    client.resetAndDestroy();
    assert.equal(await end, 'CLIENT_LOST');
  });

  it('is noticed when it was the target, and the client is silent', async () => {
    const { client, target, end } = await openTunnel();
    await halfClose(target, client);
    target.resetAndDestroy();
    assert.equal(await end, 'TARGET_LOST');
  });

  it('is noticed on a unix socket, which has no keep-alive', async () => {
    const path = join(tmpdir(), `postern-lost-${process.pid}.sock`);
    const { client, target, end } = await openTunnel(path);
    await halfClose(client, target);
    client.destroy();
    assert.equal(await end, 'CLIENT_LOST');
    rmSync(path, { force: true });
  });

  it('is not mistaken for one that has only ended its direction, silent as both sides are', async () => {
    const { client, target, end } = await openTunnel();
    await halfClose(client, target);
    await delay(severalChecksMs);
    const answer = once(client, 'data');
    target.write('a late answer');
    assert.equal(String((await answer)[0]), 'a late answer');
    await delay(severalChecksMs / 2);
    target.end();
    assert.equal(await end, 'CLOSED');
  });

  it('does not take from the client what a target sent before it left', async () => {
    const { client, target, end } = await openTunnel();
    const bytes = 1024 * 1024;
    target.end(Buffer.alloc(bytes, 7));
    await once(target, 'finish');
    // Long after the target is gone, nothing of it has been read.
    target.destroySoon();
    await delay(severalChecksMs);
    let received = 0;
    client.on('data', (chunk: Buffer) => (received += chunk.length));
    await once(client, 'end');
    assert.equal(received, bytes);
    client.destroy();
    assert.notEqual(await end, 'ENDED');
  });

  it('does not take from the target what a client sent before it left', async () => {
    const { client, target, end } = await openTunnel();
    const bytes = 1024 * 1024;
    client.end(Buffer.alloc(bytes, 7));
    await once(client, 'finish');
    client.destroy();
    await delay(severalChecksMs);
    let received = 0;
    target.on('data', (chunk: Buffer) => (received += chunk.length));
    await once(target, 'end');
    assert.equal(received, bytes);
    target.destroy();
    assert.notEqual(await end, 'ENDED');
  });
});
