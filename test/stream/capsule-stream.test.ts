import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { describe, it } from 'node:test';
import { capsuleCodes, capsuleHead, keepAliveCapsule } from '../../protocol/capsule.ts';
import { capsuleStream } from '../../stream/capsule-stream.ts';
import { collect, outcome } from '../server/support/peers.ts';

const codes = capsuleCodes('connect-tcp')!;
const end = capsuleHead(codes.finalData, 0);

function data(text: string): Buffer {
  return Buffer.concat([capsuleHead(codes.data, text.length), Buffer.from(text)]);
}

/** Our stream on one end of a connection, and the bare other end. */
async function pair(options: { keepAliveMs?: number } = {}): Promise<[Duplex, Socket]> {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const peer = connect({
    port: (server.address() as AddressInfo).port,
    host: '127.0.0.1',
    allowHalfOpen: true,
  });
  peer.on('error', () => {});
  const [socket] = (await once(server, 'connection')) as [Socket];
  server.close();
  return [capsuleStream(socket, codes, options), peer];
}

describe('a stream over capsules', () => {
  it('ends with FINAL_DATA, and goes on writing', async () => {
    const [stream, peer] = await pair();
    peer.write(Buffer.concat([data('ab'), keepAliveCapsule, data('cd'), end]));
    assert.equal((await collect(stream)).toString(), 'abcd');
    stream.end('later');
    assert.deepEqual(await collect(peer), Buffer.concat([data('later'), end]));
    peer.end();
  });

  it('goes on writing to a peer that has closed its own half after FINAL_DATA', async () => {
    const [stream, peer] = await pair();
    peer.end(end);
    await collect(stream);
    stream.end('later');
    assert.deepEqual(await collect(peer), Buffer.concat([data('later'), end]));
  });

  for (const [what, leave] of [
    ['a connection that ends without FINAL_DATA', (peer: Socket) => peer.end(data('ab'))],
    ['a connection that ends inside a capsule', (peer: Socket) => peer.end(data('ab').subarray(0, -1))],
    ['a reset', (peer: Socket) => peer.resetAndDestroy()],
    ['data after FINAL_DATA', (peer: Socket) => void peer.write(Buffer.concat([end, data('x')]))],
  ] as const) {
    it(`fails with ${what}`, async () => {
      const [stream, peer] = await pair();
      const failed = new Promise((resolve) => stream.once('error', resolve));
      stream.resume();
      leave(peer);
      assert.ok((await failed) instanceof Error);
      peer.destroy();
    });
  }

  it('resets the connection when it is destroyed', async () => {
    const [stream, peer] = await pair();
    stream.destroy();
    assert.equal(await outcome(peer), 'ECONNRESET');
  });

  it('writes empty chunks as nothing', async () => {
    const [stream, peer] = await pair();
    peer.end(end);
    stream.resume();
    stream.write(Buffer.alloc(0));
    stream.end('x');
    assert.deepEqual(await collect(peer), Buffer.concat([data('x'), end]));
  });

  it('beats while it is idle, with a capsule that everyone skips', async () => {
    const [stream, peer] = await pair({ keepAliveMs: 10 });
    const [beat] = (await once(peer, 'data')) as [Buffer];
    assert.deepEqual(beat.subarray(0, 2), keepAliveCapsule);
    stream.destroy();
    peer.destroy();
  });
});
