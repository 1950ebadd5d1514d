import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { endianness } from 'node:os';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { PeerUser, ownerOf } from '../../../client/local-proxy/peer-user.ts';

const header =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';

function row(local: string, remote: string, uid: number, inode: number): string {
  return `   0: ${local} ${remote} 01 00000000:00000000 00:00000000 00000000 ${String(uid).padStart(5)}        0 ${inode} 1 0000000000000000 20 4 30 10 -1\n`;
}

/** Both ends of a connection to our port 1080, as the program at the other end has them. */
const ends = (address: string) => ({ local: [address, 40_123], remote: [address, 1080] }) as const;
const [program, ours] = ['0100007F:9CBB', '0100007F:0438'];
const mapped = '0000000000000000FFFF0000';
const loopback6 = '00000000000000000000000001000000';

describe('ownerOf()', { skip: endianness() !== 'LE' && 'the rows are those of another processor' }, () => {
  for (const [what, rows, address, uid] of [
    ['a program', row(program, ours, 1000, 7), '127.0.0.1', 1000],
    ['root', row(program, ours, 0, 7), '127.0.0.1', 0],
    [
      'a program that uses IPv6 for all',
      row(`${mapped}${program}`, `${mapped}${ours}`, 1000, 7),
      '127.0.0.1',
      1000,
    ],
    ['a program behind such a socket of ours', row(program, ours, 1000, 7), '::ffff:127.0.0.1', 1000],
    ['a program at ::1', row(`${loopback6}:9CBB`, `${loopback6}:0438`, 1000, 7), '::1', 1000],
    ['a socket that its program has left', row(program, ours, 0, 0), '127.0.0.1', undefined],
    ['our own end', row(ours, program, 1000, 7), '127.0.0.1', undefined],
    ['another connection', row('0100007F:9CBC', ours, 1000, 7), '127.0.0.1', undefined],
    ['nobody', '', '127.0.0.1', undefined],
    ['rows that are none', 'a\n: : :\n\n   0: 1\n', '127.0.0.1', undefined],
  ] as const) {
    it(`finds ${uid ?? 'nobody'} for ${what}`, () => {
      assert.equal(ownerOf(Buffer.from(header + rows), ends(address)), uid);
    });
  }
});

describe('Neighbours', () => {
  it(
    'knows its own program by the tables of the kernel',
    { skip: process.platform !== 'linux' },
    async (t) => {
      const neighbours = new PeerUser();
      assert.equal(await neighbours.isSupported(), true);
      const sockets = await Promise.all(Array.from({ length: 20 }, () => connected(t)));
      assert.deepEqual(
        new Set(await Promise.all(sockets.map((socket) => neighbours.ownerOf(socket)))),
        new Set(['own']),
      );
    },
  );

  it('says so where there are no tables', async (t) => {
    const neighbours = new PeerUser(['/nonexistent']);
    assert.equal(await neighbours.isSupported(), false);
    assert.equal(await neighbours.ownerOf(await connected(t)), 'unknown');
  });
});

/** The server's end of a connection from this process. */
async function connected(t: TestContext): Promise<Socket> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = connect((server.address() as { port: number }).port, '127.0.0.1');
  const [far] = (await once(server, 'connection')) as [Socket];
  await (near.connecting ? once(near, 'connect') : undefined);
  t.after(() => {
    for (const socket of [near, far]) socket.destroy();
    server.close();
  });
  return far;
}
