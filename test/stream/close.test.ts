import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { abort } from '../../stream/close.ts';

describe('abort()', () => {
  it('resets a TCP connection', async () => {
    const { near, far } = await pair(0);
    abort(near);
    const [error] = (await once(far, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNRESET');
  });

  it('ends a connection over a unix socket, which knows no reset', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'postern-close-'));
    const { near, far } = await pair(join(folder, 'door.sock'));
    abort(near);
    far.resume();
    await once(far, 'close');
    rmSync(folder, { recursive: true });
  });
});

async function pair(door: string | 0): Promise<{ near: Socket; far: Socket }> {
  const server = createServer();
  server.listen(door === 0 ? { port: 0, host: '127.0.0.1' } : { path: door });
  await once(server, 'listening');
  const far =
    door === 0 ? connect((server.address() as AddressInfo).port, '127.0.0.1') : connect({ path: door });
  const [near] = (await once(server, 'connection')) as [Socket];
  server.close();
  return { near, far };
}
