import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fastify from 'fastify';
import { OwnListener } from '../../../server/listener/public-listener.ts';

const scratch = mkdtempSync(join(tmpdir(), 'postern-listener-'));
after(() => rmSync(scratch, { recursive: true }));

/** A listener of one app on two unix sockets, which says hello and echoes what is upgraded. */
async function openTwo(): Promise<{ listener: OwnListener; paths: readonly [string, string] }> {
  const app = fastify();
  app.get('/', (_request, reply) => reply.send('hello'));
  app.server.on('upgrade', (_request, socket: Socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    socket.pipe(socket);
  });
  const paths = [join(scratch, 'one.sock'), join(scratch, 'two.sock')] as const;
  const listener = new OwnListener(app, [
    { name: 'http', spec: { kind: 'unix', path: paths[0] } },
    { name: 'other', spec: { kind: 'unix', path: paths[1] } },
  ]);
  await listener.open('exclusive');
  return { listener, paths };
}

async function answer(path: string, head: string, until: string): Promise<Socket> {
  const socket = connect({ path });
  socket.write(head);
  let text = '';
  while (!text.includes(until)) text += String(((await once(socket, 'data')) as [Buffer])[0]);
  return socket;
}

describe('the listeners of a process that carries tunnels itself', () => {
  it('are served alike, have their names, and leave no socket behind', async () => {
    const { listener, paths } = await openTwo();
    assert.deepEqual(
      listener.sockets.map(({ name }) => name),
      ['http', 'other'],
    );
    assert.equal(new Set(listener.sockets.map(({ fd }) => fd)).size, 2);
    for (const path of paths) {
      const head = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
      (await answer(path, head, 'hello')).destroy();
    }
    await listener.end();
    assert.deepEqual(
      paths.map((path) => existsSync(path)),
      [false, false],
    );
  });

  it('accept nothing new after close(), and keep what is open', async () => {
    const { listener, paths } = await openTwo();
    const upgrade = 'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';
    const tunnels = await Promise.all(paths.map((path) => answer(path, upgrade, '\r\n\r\n')));
    listener.close();
    for (const path of paths) {
      const refused = connect({ path });
      const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException];
      assert.equal(error.code, 'ECONNREFUSED');
    }
    for (const tunnel of tunnels) {
      tunnel.write('still here?');
      assert.equal(String(((await once(tunnel, 'data')) as [Buffer])[0]), 'still here?');
      tunnel.destroy();
    }
    await listener.end();
  });
});
