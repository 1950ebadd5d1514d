import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { describe, it } from 'node:test';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import type { TestContext } from 'node:test';
import { readDirect } from '../../../stream/zero-copy/direct-reads.ts';
import type { Release } from '../../../base/buffer-pool.ts';
import { PooledSocket } from '../../../stream/zero-copy/pooled-socket.ts';
import { authority, certificate, key } from '../../client/certificates.ts';

const mebibyte = 1024 * 1024;

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
}

/** A connection of ours, and the other end of it. */
type MakePair = (t: TestContext) => Promise<Pair>;

async function dialled(t: TestContext): Promise<Pair> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const { port } = server.address() as AddressInfo;
  const near = new PooledSocket({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [far] = await accepted;
  return kept(t, server, { near, far });
}

async function accepted(t: TestContext): Promise<Pair> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const far = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [near] = (await once(server, 'connection')) as [Socket];
  return kept(t, server, { near, far });
}

/** As `connect` requests come. */
async function requested(t: TestContext): Promise<Pair> {
  const server = createHttpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const far = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  far.write('CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n');
  const [{ socket: near }] = (await once(server, 'connect')) as [IncomingMessage];
  return kept(t, server, { near, far });
}

async function acceptedByTls(t: TestContext): Promise<Pair> {
  const server = createTlsServer({ key, cert: certificate, allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const far = connectTls({ port, host: '127.0.0.1', ca: authority });
  const [near] = (await once(server, 'secureConnection')) as [Socket];
  return kept(t, server, { near, far });
}

function kept(t: TestContext, server: Server, pair: Pair): Pair {
  server.close();
  for (const socket of [pair.near, pair.far]) t.after(() => socket.destroy());
  return pair;
}

async function send(socket: Socket, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 50_000)
    if (!socket.write(bytes.subarray(at, at + 50_000))) await once(socket, 'drain');
  socket.end();
}

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

const kinds: Readonly<Record<string, MakePair>> = {
  'a connection that we make': dialled,
  'a connection that came to us': accepted,
  'a connection that came with a CONNECT request': requested,
  'a connection that came by TLS': acceptedByTls,
};

for (const [what, pair] of Object.entries(kinds)) {
  describe(`readDirect() of ${what}`, () => {
    it('passes on what came before, and the end', async (t) => {
      const { near, far } = await pair(t);
      far.end('early');
      await once(near, 'readable');
      const ended = once(near, 'end');
      let received = '';
      readDirect(near, (bytes) => Boolean((received += bytes.toString())));
      await ended;
      assert.equal(received, 'early');
    });

    it('leaves the bytes alone until they are released, whatever else is read in the meantime', async (t) => {
      const bytes = randomBytes(4 * mebibyte);
      const hashes = await Promise.all(
        Array.from({ length: 8 }, async (_, number) => {
          const { near, far } = await pair(t);
          const held: { readonly bytes: Buffer; readonly release: Release }[] = [];
          const hash = createHash('sha256');
          const flush = (): void => {
            for (const one of held.splice(0)) {
              hash.update(one.bytes);
              one.release(number % 2 === 0 ? null : new Error('not written'));
            }
          };
          readDirect(near, (chunk, release) => {
            held.push({ bytes: chunk, release });
            if (held.length > number) setImmediate(flush);
            return true;
          });
          await Promise.all([send(far, bytes), once(near, 'end')]);
          flush();
          return hash.digest('hex');
        }),
      );
      assert.deepEqual(new Set(hashes), new Set([hashOf(bytes)]));
    });

    it('uses the memory again that was released', async (t) => {
      const { near, far } = await pair(t);
      const stores = new Set<ArrayBufferLike>();
      readDirect(near, (bytes, release) => {
        if (bytes.buffer.byteLength >= 128 * 1024) stores.add(bytes.buffer);
        release();
        return true;
      });
      await Promise.all([send(far, Buffer.alloc(32 * mebibyte)), once(near, 'end')]);
      assert.ok(stores.size > 0 && stores.size < 20, `${stores.size} buffers`);
    });

    it('stops reading when there is no room, and goes on', async (t) => {
      const { near, far } = await pair(t);
      let passed = 0;
      readDirect(near, (bytes) => {
        passed += bytes.length;
        return false;
      });
      const bytes = Buffer.alloc(64 * mebibyte, 'x');
      const ended = once(near, 'end');
      const sent = send(far, bytes);
      let turns = 0;
      while (passed < bytes.length) {
        const before = passed;
        await new Promise((resolve) => setTimeout(resolve, turns++ < 5 ? 20 : 0));
        assert.ok(passed - before <= 256 * 1024, `${passed - before} bytes at once`);
        near.resume();
      }
      near.resume();
      await Promise.all([sent, ended]);
      assert.equal(passed, bytes.length);
    });

    it('reads small amounts without a buffer of their own', async (t) => {
      const { near, far } = await pair(t);
      const stores = new Set<ArrayBufferLike>();
      readDirect(near, (bytes) => {
        stores.add(bytes.buffer);
        return near.emit('passed');
      });
      for (let count = 0; count < 100; count++) {
        far.write('x');
        await once(near, 'passed');
      }
      assert.ok(stores.size < 5, `${stores.size} buffers`);
    });
  });
}

for (const pair of [dialled, accepted, requested]) {
  it(`readDirect() emits the error of a reset as usual: ${pair.name}`, async (t) => {
    const { near, far } = await pair(t);
    readDirect(near, () => true);
    far.resetAndDestroy();
    const [error] = (await once(near, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNRESET');
  });
}

describe('PooledSocket', () => {
  it('is a socket like any other until it is read directly', async (t) => {
    const { near, far } = await dialled(t);
    const bytes = randomBytes(3 * mebibyte);
    const chunks: Buffer[] = [];
    near.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      near.pause();
      setImmediate(() => near.resume());
    });
    await Promise.all([send(far, bytes), once(near, 'end')]);
    assert.equal(hashOf(Buffer.concat(chunks)), hashOf(bytes));
    near.end('and back');
    const [back] = (await once(far, 'data')) as [Buffer];
    assert.equal(back.toString(), 'and back');
  });
});
