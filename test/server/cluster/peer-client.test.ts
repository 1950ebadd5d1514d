import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { PeerTimeoutError, requestJson } from '../../../server/cluster/peer-client.ts';

const scratch = mkdtempSync(join(tmpdir(), 'postern-client-'));
after(() => rmSync(scratch, { recursive: true }));

let count = 0;

/** The path of a socket on which `handle` answers. */
async function startPeer(handle: RequestListener): Promise<{ path: string; close(): void }> {
  const path = join(scratch, `${++count}.sock`);
  const server = createServer(handle).listen({ path });
  await once(server, 'listening');
  return {
    path,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

describe('requestJson()', () => {
  it('sends JSON with its version, and gives the status, the version and the body of the response', async () => {
    const peer = await startPeer((request, response) => {
      request.setEncoding('utf8').once('data', (body) => {
        const { method, url, headers } = request;
        const version = headers['postern-peer-version'];
        response.writeHead(201, { 'Postern-Peer-Version': '3' });
        response.end(JSON.stringify({ method, url, version, body }));
      });
    });
    const { status, version, body } = await requestJson(peer.path, {
      path: '/find',
      body: { sid: 'x' },
      timeoutMs: 5000,
    });
    assert.deepEqual([status, version], [201, 3]);
    assert.deepEqual(body, { method: 'POST', url: '/find', version: '1', body: '{"sid":"x"}' });
    peer.close();
  });

  it('gives up a process that does not answer, before its response and in the middle of it', async () => {
    const handlers: RequestListener[] = [() => {}, (_request, response) => void response.write('{"a":')];
    for (const handle of handlers) {
      const peer = await startPeer(handle);
      await assert.rejects(requestJson(peer.path, { path: '/', timeoutMs: 50 }), PeerTimeoutError);
      peer.close();
    }
  });

  it('rejects with the error of the connection, and for what is not JSON', async () => {
    const nowhere = join(scratch, 'nowhere.sock');
    await assert.rejects(requestJson(nowhere, { path: '/', timeoutMs: 5000 }), { code: 'ENOENT' });
    const peer = await startPeer((_request, response) => void response.end('hello'));
    await assert.rejects(requestJson(peer.path, { path: '/', timeoutMs: 5000 }), SyntaxError);
    const broken = await startPeer((request) => void request.socket.destroy());
    await assert.rejects(requestJson(broken.path, { path: '/', timeoutMs: 5000 }), { code: 'ECONNRESET' });
    peer.close();
    broken.close();
  });
});
