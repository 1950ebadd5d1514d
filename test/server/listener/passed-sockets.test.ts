import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { passedSockets, publicListeners, socketNames } from '../../../server/listener/passed-sockets.ts';
import type { PassedSocket } from '../../../server/listener/passed-sockets.ts';

const fromSystemd = { LISTEN_PID: String(process.pid) };
const fromPeer = { POSTERN_PREDECESSOR: String(process.ppid) };

describe('passedSockets()', () => {
  const cases: readonly [name: string, env: NodeJS.ProcessEnv, sockets: readonly PassedSocket[]][] = [
    ['finds none where nothing was passed', {}, []],
    ['finds one of systemd without names', { ...fromSystemd, LISTEN_FDS: '1' }, [{ name: 'unknown', fd: 3 }]],
    [
      'finds those of systemd by their names',
      { ...fromSystemd, LISTEN_FDS: '2', LISTEN_FDNAMES: 'raw:http' },
      [
        { name: 'raw', fd: 3 },
        { name: 'http', fd: 4 },
      ],
    ],
    [
      'finds no more than systemd has passed',
      { ...fromSystemd, LISTEN_FDS: '1', LISTEN_FDNAMES: 'http:http' },
      [{ name: 'http', fd: 3 }],
    ],
    ['leaves alone what is for another process', { LISTEN_PID: '1', LISTEN_FDS: '1' }, []],
    ['takes no number that cannot be read', { ...fromSystemd, LISTEN_FDS: 'many' }, []],
    ['takes no number below 1', { ...fromSystemd, LISTEN_FDS: '0' }, []],
    ['finds one of an older process, which gives no names', fromPeer, [{ name: 'http', fd: 3 }]],
    [
      'finds those of the process before by their names',
      { ...fromPeer, POSTERN_LISTEN_FDNAMES: 'http:raw' },
      [
        { name: 'http', fd: 3 },
        { name: 'raw', fd: 4 },
      ],
    ],
    [
      'leaves alone what an older generation was passed',
      { POSTERN_PREDECESSOR: '1', POSTERN_LISTEN_FDNAMES: 'http' },
      [],
    ],
  ];
  for (const [name, env, sockets] of cases) it(name, () => assert.deepEqual(passedSockets(env), sockets));

  it('reads what socketNames() has written', () => {
    const sockets = [
      { name: 'http', fd: 3 },
      { name: 'http', fd: 4 },
      { name: 'raw', fd: 5 },
    ];
    assert.deepEqual(passedSockets({ ...fromPeer, ...socketNames(sockets) }), sockets);
  });
});

describe('publicListeners()', () => {
  const address = { kind: 'tcp', host: '127.0.0.1', port: 8022 } as const;
  const cases: readonly [name: string, passed: readonly [string, number][], fds: readonly number[]][] = [
    [
      'uses the first socket where none has a name that is known',
      [
        ['postern.socket', 3],
        ['unknown', 4],
      ],
      [3],
    ],
    [
      'prefers the one of its name',
      [
        ['raw', 3],
        ['http', 4],
      ],
      [4],
    ],
    [
      'uses all that have its name',
      [
        ['http', 3],
        ['raw', 4],
        ['http', 5],
      ],
      [3, 5],
    ],
  ];
  for (const [name, passed, fds] of cases) {
    it(name, () => {
      const sockets = passed.map(([socketName, fd]) => ({ name: socketName, fd }));
      assert.deepEqual(
        publicListeners(address, sockets),
        fds.map((fd) => ({ name: 'http', spec: { kind: 'passed', fd } })),
      );
    });
  }

  it('uses the address of the configuration where no socket was passed', () =>
    assert.deepEqual(publicListeners(address, []), [{ name: 'http', spec: address }]));
});
