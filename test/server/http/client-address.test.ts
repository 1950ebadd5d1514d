import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { describe, it } from 'node:test';
import { connectionPeer, remoteAddressBehind } from '../../../server/http/client-address.ts';

const behind = remoteAddressBehind(['127.0.0.0/8', '::1', '10.9.0.0/16']);

const table: [peer: string | undefined, forwarded: string | undefined, caller: string][] = [
  // Forwarded headers of other peers are ignored.
  ['203.0.113.5', undefined, '203.0.113.5'],
  ['203.0.113.5', '198.51.100.1', '203.0.113.5'],
  // Those of a trusted proxy count, as far as the chain of trusted proxies goes.
  ['127.0.0.1', '203.0.113.5', '203.0.113.5'],
  ['127.0.0.1', '198.51.100.1, 203.0.113.5', '203.0.113.5'],
  ['127.0.0.1', '198.51.100.1, 203.0.113.5, 10.9.0.1', '203.0.113.5'],
  ['127.0.0.1', '10.9.0.1', '10.9.0.1'],
  ['127.0.0.1', undefined, '127.0.0.1'],
  ['::1', '2001:db8::7', '2001:db8::7'],
  ['::ffff:127.0.0.1', '203.0.113.5', '203.0.113.5'],
  ['::ffff:203.0.113.5', '198.51.100.1', '203.0.113.5'],
  [undefined, '203.0.113.5', '203.0.113.5'],
  // An entry that is no address is ignored, and so is everything before it.
  ['127.0.0.1', 'unknown', '127.0.0.1'],
  ['127.0.0.1', '203.0.113.5, unknown', '127.0.0.1'],
  ['127.0.0.1', '203.0.113.5:4711', '127.0.0.1'],
  ['127.0.0.1', '127.1', '127.0.0.1'],
  ['127.0.0.1', '', '127.0.0.1'],
  ['127.0.0.1', '203.0.113.5\u001b[31m', '127.0.0.1'],
];

describe('the address of a caller', () => {
  for (const [peer, forwarded, caller] of table) {
    it(`is ${caller} when ${peer} says ${JSON.stringify(forwarded)}`, () => {
      const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
      const request = { socket: { remoteAddress: peer }, headers } as unknown as IncomingMessage;
      assert.equal(behind(request), caller);
    });
  }
});

describe('a connection that was over before its address was read', () => {
  it('is not taken for a proxy on this machine', async () => {
    const server = createServer({ allowHalfOpen: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const [socket] = (await once(server, 'connection')) as [Socket];
    client.destroy();
    socket.destroy();
    await once(socket, 'close');
    const request = { socket, headers: { 'x-forwarded-for': '203.0.113.5' } } as unknown as IncomingMessage;
    assert.equal(behind(request), '0.0.0.0');
    server.close();
  });
});

describe('the peer of a connection', () => {
  it('is what the kernel reports, without a certificate in the clear', async () => {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const [socket] = (await once(server, 'connection')) as [Socket];
    assert.deepEqual(connectionPeer(socket), { address: '127.0.0.1', localAddress: '127.0.0.1' });
    client.destroy();
    socket.destroy();
    server.close();
  });
});
