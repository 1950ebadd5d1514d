import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { PooledSocket } from '../../stream/pooled-socket.ts';
import type { Release } from '../../stream/pooled-socket.ts';

const mebibyte = 1024 * 1024;

/** A pooled socket to a server of our own, and the server's end of it. */
async function pair(t: TestContext): Promise<{ near: PooledSocket; far: Socket }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const { port } = server.address() as AddressInfo;
  const near = new PooledSocket({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [far] = await accepted;
  server.close();
  for (const socket of [near, far]) t.after(() => socket.destroy());
  return { near, far };
}

async function send(socket: Socket, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 50_000)
    if (!socket.write(bytes.subarray(at, at + 50_000))) await once(socket, 'drain');
  socket.end();
}

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

describe('a pooled socket', () => {
  it('is a socket like any other until it is asked to hand over', async (t) => {
    const { near, far } = await pair(t);
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

  it('hands over what came before, and the end', async (t) => {
    const { near, far } = await pair(t);
    far.end('early');
    await once(near, 'readable');
    const ended = once(near, 'end');
    let heard = '';
    near.handOver((bytes) => Boolean((heard += bytes.toString())));
    await ended;
    assert.equal(heard, 'early');
  });

  it('leaves the bytes alone until they are released, whoever else reads in the meantime', async (t) => {
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
        near.handOver((chunk, release) => {
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
    near.handOver((bytes, release) => {
      if (bytes.buffer.byteLength >= 128 * 1024) stores.add(bytes.buffer);
      release();
      return true;
    });
    await Promise.all([send(far, Buffer.alloc(32 * mebibyte)), once(near, 'end')]);
    assert.ok(stores.size > 0 && stores.size < 20, `${stores.size} buffers`);
  });

  it('stops reading when there is no room, and goes on', async (t) => {
    const { near, far } = await pair(t);
    let handed = 0;
    near.handOver((bytes) => {
      handed += bytes.length;
      return false;
    });
    const bytes = Buffer.alloc(64 * mebibyte, 'x');
    const ended = once(near, 'end');
    const sent = send(far, bytes);
    let turns = 0;
    while (handed < bytes.length) {
      const before = handed;
      await new Promise((resolve) => setTimeout(resolve, turns++ < 5 ? 20 : 0));
      assert.ok(handed - before <= 256 * 1024, `${handed - before} bytes at once`);
      near.resume();
    }
    near.resume();
    await Promise.all([sent, ended]);
    assert.equal(handed, bytes.length);
  });

  it('reads who says little without a memory of their own', async (t) => {
    const { near, far } = await pair(t);
    const stores = new Set<ArrayBufferLike>();
    near.handOver((bytes) => {
      stores.add(bytes.buffer);
      return near.emit('handed');
    });
    for (let count = 0; count < 100; count++) {
      far.write('x');
      await once(near, 'handed');
    }
    assert.ok(stores.size < 5, `${stores.size} buffers`);
  });

  it('tells of a reset as ever', async (t) => {
    const { near, far } = await pair(t);
    near.handOver(() => true);
    far.resetAndDestroy();
    const [error] = (await once(near, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNRESET');
  });
});
