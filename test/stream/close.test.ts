import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
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

  it('lets go of a connection whose end is on its way', async () => {
    const before = openSockets();
    const { near, far } = await pair(0);
    near.end();
    const closed = once(near, 'close');
    abort(near);
    await closed;
    far.destroy();
    await once(far, 'close');
    for (let turns = 0; openSockets() > before && turns < 1000; turns++) await turn();
    assert.equal(openSockets(), before);
  });
});

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length;
}

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
