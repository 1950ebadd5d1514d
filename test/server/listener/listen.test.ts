import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fastify from 'fastify';
import { RuntimeDirectory } from '../../../server/cluster/runtime-directory.ts';
import { bindSockets } from '../../../server/listener/bound-socket.ts';
import { listen, listenForTakeover, removeSocketFile } from '../../../server/listener/listen.ts';
import type { ListenMode } from '../../../server/listener/listen.ts';
import { run } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';

const scratch = openScratch();

/** What must not be removed, by its name in a message. */
const things: readonly [what: string, make: (path: string) => void, says: RegExp][] = [
  ['a file', (path) => writeFileSync(path, 'precious'), /there is a file, not a socket/],
  ['an empty file', (path) => writeFileSync(path, ''), /there is a file, not a socket/],
  ['a directory', (path) => mkdirSync(path), /there is a directory, not a socket/],
  [
    'a link to a file',
    (path) => {
      writeFileSync(`${path}.to`, 'precious');
      symlinkSync(`${path}.to`, path);
    },
    /there is a symbolic link, not a socket/,
  ],
  [
    'a link to nothing',
    (path) => symlinkSync(`${path}.nothing`, path),
    /there is a symbolic link, not a socket/,
  ],
];

function serverAt(path: string): Promise<Server> {
  return new Promise((resolve) => {
    const server = createServer((socket) => void socket.destroy()).listen(path, () => resolve(server));
  });
}

/** Leaves a socket behind that no process has. */
async function leaveDeadSocket(path: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await run([process.execPath, '-e', script]);
  assert.ok(lstatSync(path).isSocket());
}

describe('a unix socket of the gateway', () => {
  const folder = scratch.path('sockets');
  mkdirSync(folder);
  let count = 0;
  const fresh = (): string => join(folder, `s${count++}`);

  const ways: readonly [name: string, open: (path: string) => Promise<unknown>][] = [
    ...(['exclusive', 'takeover'] as ListenMode[]).map(
      (mode) =>
        [
          `listened on (${mode})`,
          async (path: string): Promise<unknown> => {
            const server = createServer();
            return listenForTakeover(server, { kind: 'unix', path }, { access: 'owner', mode }).finally(
              () => void server.close(),
            );
          },
        ] as [string, (path: string) => Promise<unknown>],
    ),
    [
      'bound for workers',
      async (path): Promise<unknown> => {
        const [socket] = await bindSockets({ kind: 'unix', path }, 'exclusive', 2);
        return socket?.publish();
      },
    ],
    ['of the plugin', (path): Promise<unknown> => listen(fastify(), { kind: 'unix', path }, 'owner')],
  ];
  for (const [way, open] of ways)
    for (const [what, make, says] of things)
      it(`${way} takes the place of no ${what.replace(/^an? /, '')}`, async () => {
        const path = fresh();
        make(path);
        await assert.rejects(open(path), says);
        assert.ok(!lstatSync(path).isSocket());
        if (what === 'a file') assert.equal(readFileSync(path, 'utf8'), 'precious');
        assert.deepEqual(
          readdirSync(folder).filter((name) => name.startsWith('.')),
          [],
        );
      });

  it('takes the place of no live socket of another program, of any kind', async () => {
    const path = fresh();
    const other = await serverAt(path);
    const app = fastify();
    await assert.rejects(listen(app, { kind: 'unix', path }, 'owner'), /another program has that socket/);
    await removeSocketFile({ kind: 'unix', path });
    assert.ok(existsSync(path));
    other.close();
    await app.close();
    // A datagram socket refuses connections in another way.
    const datagrams = fresh();
    const python = `import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\ns.bind(sys.argv[1])\nprint(1,flush=True)\nsys.stdin.read()`;
    const child = spawn('python3', ['-c', python, datagrams], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    await assert.rejects(
      listenForTakeover(
        createServer(),
        { kind: 'unix', path: datagrams },
        { access: 'owner', mode: 'exclusive' },
      ),
      /another program has that socket/,
    );
    assert.ok(existsSync(datagrams));
    child.stdin.end();
    await once(child, 'close');
  });

  it('takes the place of a socket that a dead process has left behind', async () => {
    const path = fresh();
    await leaveDeadSocket(path);
    const server = createServer((socket) => void socket.destroy());
    await listenForTakeover(server, { kind: 'unix', path }, { access: 'owner', mode: 'exclusive' });
    assert.ok(server.listening);
    await new Promise((resolve) => server.close(resolve));
    await removeSocketFile({ kind: 'unix', path });
    assert.ok(!existsSync(path));
  });

  it('is removed at the end only if it is still the socket', async () => {
    const path = fresh();
    for (const [, make] of things.slice(0, 3)) {
      const server = createServer();
      await listenForTakeover(server, { kind: 'unix', path }, { access: 'owner', mode: 'exclusive' });
      await new Promise((resolve) => server.close(resolve));
      await removeSocketFile({ kind: 'unix', path });
      make(path);
      await removeSocketFile({ kind: 'unix', path });
      assert.ok(existsSync(path));
      await run(['rm', '-r', path]);
    }
  });

  it('in the directory of instances is removed only if it is a dead socket', async () => {
    const directory = await RuntimeDirectory.open(join(folder, 'control'));
    const path = directory.socketOf('abcdefgh')!;
    writeFileSync(path, 'precious');
    assert.deepEqual(await directory.others('itself--'), []);
    await directory.remove(path);
    assert.equal(readFileSync(path, 'utf8'), 'precious');
  });

  it('says which folder is missing', async () => {
    const path = join(folder, 'missing', 'x.sock');
    await assert.rejects(
      listenForTakeover(createServer(), { kind: 'unix', path }, { access: 'owner', mode: 'exclusive' }),
      /the folder .*missing does not exist; create it/,
    );
  });

  it('says who has a port, and how to find it', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    await assert.rejects(
      listenForTakeover(
        createServer(),
        { kind: 'tcp', host: '127.0.0.1', port },
        { access: 'everyone', mode: 'exclusive' },
      ),
      new RegExp(
        `cannot listen on 127\\.0\\.0\\.1:${port} \\(EADDRINUSE\\): another program.*sport = :${port}`,
      ),
    );
    other.close();
  });
});
