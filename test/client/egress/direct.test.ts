import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import { connectEarly, direct } from '../../../client/egress/direct.ts';
import { closedPort, listen } from '../support.ts';

const never = new AbortController().signal;

// There is one early connection in a process.
describe('connectEarly()', { concurrency: 1 }, () => {
  it('begins what the next connection to the same place is', async (t) => {
    let connections = 0;
    const server = createServer((socket) => {
      connections++;
      socket.end('hello');
    });
    const gateway = { host: '127.0.0.1', port: await listen(t, server) };
    const early = connectEarly(gateway);
    await once(server, 'connection');
    for (const turn of [1, 2]) {
      const socket = await direct.connect(gateway, never);
      assert.equal(Buffer.concat((await socket.toArray()) as Buffer[]).toString(), 'hello');
      assert.equal(connections, turn);
      early.stop();
    }
  });

  it('is for nobody else', async (t) => {
    const server = createServer((socket) => void socket.resume());
    const gateway = { host: '127.0.0.1', port: await listen(t, server) };
    const early = connectEarly({ host: '127.0.0.1', port: await closedPort() });
    (await direct.connect(gateway, never)).destroy();
    early.stop();
  });

  it('tells who takes it how it failed', async () => {
    const gateway = { host: '127.0.0.1', port: await closedPort() };
    connectEarly(gateway);
    await assert.rejects(direct.connect(gateway, never), { code: 'GATEWAY_UNREACHABLE' });
  });

  it('fails when its taker does not want it any more', async () => {
    // Nobody answers at this address (RFC 5737).
    const gateway = { host: '192.0.2.1', port: 9 };
    connectEarly(gateway);
    await assert.rejects(direct.connect(gateway, AbortSignal.abort()), (error: { code: string }) =>
      ['GATEWAY_TIMEOUT', 'GATEWAY_UNREACHABLE'].includes(error.code),
    );
  });

  it('is closed when it is not needed', async (t) => {
    const server = createServer();
    const gateway = { host: '127.0.0.1', port: await listen(t, server) };
    const early = connectEarly(gateway);
    const [socket] = (await once(server, 'connection')) as [Socket];
    early.stop();
    await once(socket.resume(), 'close');
  });
});
