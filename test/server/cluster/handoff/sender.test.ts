import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { spawnSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { direct } from '../../../../client/egress/direct.ts';
import { http, relay } from '../../../../client/entry/resumable.ts';
import { resumeField } from '../../../../client/entry/resumable.ts';
import { Secret } from '../../../../protocol/secret.ts';
import { relayV1 } from '../../../../protocol/relay-v1.ts';
import type { RelayOpened } from '../../../../protocol/relay-frame.ts';
import { Metrics } from '../../../../server/telemetry/metrics.ts';
import { RuntimeDirectory } from '../../../../server/cluster/runtime-directory.ts';
import { formatHandoff, handedOverField } from '../../../../server/cluster/handoff/receiver.ts';
import type { HandoffPayload } from '../../../../server/cluster/handoff/receiver.ts';
import { instanceApp } from '../../../../server/cluster/peer-api.ts';
import { Peers, locateTunnel } from '../../../../server/cluster/peers.ts';
import { ProcessLifecycle } from '../../../../server/cluster/process-lifecycle.ts';
import { listenForTakeover } from '../../../../server/listener/listen.ts';
import { WebSocket } from 'ws';
import { codeOf, exchange, startEcho, startParts, statusOf } from '../../support/gateway-parts.ts';
import type { Parts } from '../../support/gateway-parts.ts';
import { HttpWire } from '../../../hostile/support/http-wire.ts';
import { upgradeHead, webSocketFields } from '../../support/peers.ts';

const alice = { issuer: 'test', subject: 'alice' };
const [older, newer] = ['older---', 'newer---'];

const reconnect = ({ port }: Parts, sid: string, fields: string): Promise<string> =>
  exchange(
    port,
    upgradeHead(
      `/ssh/v4/reconnect?sid=${encodeURIComponent(sid)}&ack=0`,
      'websocket',
      webSocketFields + fields,
    ),
  );

function fieldsFor({ sid, secret }: RelayOpened, count = 1): string {
  const field = resumeField({ sid, secret: secret!, received: 0, count, cause: 'move' });
  return `Authorization: Bearer good\r\nSec-WebSocket-Protocol: postern.relay.v1\r\nPostern-Rejoin: ${field}\r\n`;
}

const handedHead = (sid: string, fields: string, what: HandoffPayload): string =>
  upgradeHead(
    `/v4/reconnect?sid=${sid}&ack=0`,
    'websocket',
    `${webSocketFields}${fields}${handedOverField}: ${formatHandoff(what)}\r\n`,
  );

/** Two processes of one gateway, in one: the older one has the tunnel, the newer one gets the requests. */
describe('a resume request that reaches another process', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'postern-hand-over-'));
  let folder: RuntimeDirectory;
  let owner: Parts;
  let taker: Parts;
  let peers: Peers;
  let instance: ReturnType<typeof instanceApp>;
  let echo: Awaited<ReturnType<typeof startEcho>>;

  before(async () => {
    folder = await RuntimeDirectory.open(join(scratch, 'gateway.ctl'));
    echo = await startEcho();
    owner = await startParts({ relays: { instance: older } });
    peers = new Peers(folder, newer);
    taker = await startParts({
      relays: { instance: newer },
      tunnels: (own) => locateTunnel(newer, own, peers),
    });
    instance = instanceApp(
      new ProcessLifecycle(
        {
          sessions: owner.sessions,
          resumableTunnels: owner.relays,
          metrics: new Metrics(),
          end: () => 0,
          stop() {},
          onSuperseded() {},
          empty: async () => {},
        },
        older,
      ),
    );
    await instance.ready();
    await listenForTakeover(
      instance.server,
      { kind: 'unix', path: folder.socketOf(older)! },
      { access: 'owner', mode: 'takeover' },
    );
  });
  after(async () => {
    peers.handoff.close();
    await instance.close();
    await Promise.all([owner.close(), taker.close()]);
    echo.close();
    rmSync(scratch, { recursive: true });
  });

  /** A tunnel of the older process, opened by hand, so that its secret is at hand. */
  async function openTunnel(): Promise<{ socket: WebSocket; opened: RelayOpened }> {
    const socket = new WebSocket(
      `ws://127.0.0.1:${owner.port}/ssh/v4/connect?host=127.0.0.1&port=${echo.port}`,
      'postern.relay.v1',
      { headers: { authorization: 'Bearer good' } },
    );
    const [message, isBinary] = (await once(socket, 'message')) as [Buffer, boolean];
    return { socket, opened: relayV1.decode(message, isBinary) as RelayOpened };
  }

  /** The answer on the older process's own socket. */
  async function sendToOwner(head: string): Promise<string> {
    const socket: Socket = connect({ path: folder.socketOf(older)!, allowHalfOpen: true });
    socket.write(head);
    const answer = (await buffer(socket)).toString('latin1');
    socket.destroy();
    return answer;
  }

  for (const entry of [relay, http]) {
    it(`goes on over there by ${entry.name}, with the address of the client, and every byte`, async () => {
      let { port } = owner;
      const tunnel: Duplex = await entry.open(
        {
          gateway: new URL(`http://127.0.0.1:${owner.port}/ssh/`),
          target: { host: '127.0.0.1', port: echo.port },
          token: new Secret('good'),
          isPinned: true,
        },
        {
          name: 'both',
          connect: (target, signal) => direct.connect({ ...target, port }, signal),
        },
        AbortSignal.timeout(10_000),
      );
      tunnel.write('a'.repeat(100_000));
      const before = taker.ended.length;
      port = taker.port;
      owner.relays.requestReconnect();
      await taker.endedCount(before + 1);
      assert.equal(taker.ended.at(-1)!.end, 'RESUMED');
      assert.equal(peers.handoff.count, 1);
      const [record] = [...owner.sessions.records()];
      assert.equal(record!.resumes, 1);
      assert.equal(record!.remoteAddress, '127.0.0.1');
      tunnel.end('b'.repeat(3_000_000));
      const received = await buffer(tunnel);
      assert.equal(received.toString(), 'a'.repeat(100_000) + 'b'.repeat(3_000_000));
      await peers.handoff.empty();
    });
  }

  it('by http is refused with the owner’s reason', async () => {
    const { socket, opened } = await openTunnel();
    const wire = new HttpWire(taker.port);
    const field = resumeField({ sid: opened.sid, secret: 'wrong', received: 0, count: 1, cause: 'move' });
    const { status, code } = await wire.ask('POST', `reconnect?sid=${opened.sid}&ack=0`, {
      authorization: 'Bearer good',
      'content-length': '0',
      'postern-rejoin': field,
    });
    assert.deepEqual([status, code], [410, 'TUNNEL_GONE']);
    wire.close();
    socket.terminate();
  });

  it('is refused with the owner’s reason', async () => {
    const { socket, opened } = await openTunnel();
    const answer = await reconnect(taker, opened.sid, fieldsFor({ ...opened, secret: 'wrong' }));
    assert.deepEqual([statusOf(answer), codeOf(answer)], [410, 'TUNNEL_GONE']);
    const used = new WebSocket(
      `ws://127.0.0.1:${taker.port}/ssh/v4/reconnect?sid=${opened.sid}&ack=0`,
      'postern.relay.v1',
      {
        headers: {
          authorization: 'Bearer good',
          'postern-rejoin': resumeField({
            sid: opened.sid,
            secret: opened.secret!,
            received: 0,
            count: 2,
            cause: 'move',
          }),
        },
      },
    );
    await once(used, 'message');
    const again = await reconnect(taker, opened.sid, fieldsFor(opened, 2));
    assert.deepEqual([statusOf(again), codeOf(again)], [409, 'REJOIN_INVALID']);
    used.terminate();
    socket.terminate();
  });

  it('is refused for names that are malformed, that no process has, and that lead out of the directory', async () => {
    const fields = fieldsFor({ kind: 'opened', sid: 'x', secret: 'y' });
    for (const sid of [
      'nobody--.abc',
      '....abc',
      'older---',
      'older---.',
      'newer---.abc',
      '.abc',
      'short.abc',
    ]) {
      assert.equal(codeOf(await reconnect(taker, sid, fields)), 'TUNNEL_GONE', sid);
    }
    for (const sid of ['../../older---.abc', 'a/b.abc', '%00.abc', ''])
      assert.equal(codeOf(await reconnect(taker, sid, fields)), 'REQUEST_INVALID', sid);
  });

  it('is refused when its owner is dead, and what that left is removed', async () => {
    const path = folder.socketOf('dead----')!;
    const source = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', source]);
    assert.equal(
      codeOf(await reconnect(taker, 'dead----.abc', fieldsFor({ kind: 'opened', sid: 'x', secret: 'y' }))),
      'TUNNEL_GONE',
    );
    assert.equal(existsSync(path), false);
  });

  it('is told to try again when its owner does not answer', async () => {
    const silent = createServer((socket) => void socket.on('error', () => {})).listen({
      path: folder.socketOf('silent--')!,
    });
    await once(silent, 'listening');
    const answer = await reconnect(
      taker,
      'silent--.abc',
      fieldsFor({ kind: 'opened', sid: 'x', secret: 'y' }),
    );
    assert.deepEqual([statusOf(answer), codeOf(answer)], [503, 'TUNNEL_UNREACHABLE']);
    assert.match(answer, /\r\nRetry-After: /);
    const { ended, silent: count } = await peers.kill({ subject: 'nobody', revoke: false, reason: '' });
    assert.deepEqual([ended, count], [0, 1]);
    // The sessions of the others are listed all the same.
    assert.equal((await peers.sessions()).length, [...owner.sessions.records()].length);
    silent.close();
  });

  it('cannot be claimed by a stranger at the public listener', async () => {
    const { socket, opened } = await openTunnel();
    const claim = `${handedOverField}: ${formatHandoff({ holder: alice, id: 'x', remoteAddress: '192.0.2.1' })}\r\n`;
    const fields = fieldsFor(opened).replace('Authorization: Bearer good\r\n', claim);
    for (const parts of [owner, taker])
      assert.equal(codeOf(await reconnect(parts, opened.sid, fields)), 'TOKEN_INVALID');
    socket.terminate();
  });

  it('is trusted on the socket of an instance alone, which is for its owner, and only whole', async () => {
    const { socket, opened } = await openTunnel();
    assert.equal(statSync(folder.socketOf(older)!).mode & 0o777, 0o600);
    const fields = fieldsFor(opened);
    const mallory = { ...alice, subject: 'mallory' };
    const cases: [head: string, code: string][] = [
      [
        upgradeHead(`/v4/reconnect?sid=${opened.sid}&ack=0`, 'websocket', webSocketFields + fields),
        'REQUEST_INVALID',
      ],
      [
        handedHead(opened.sid, fields, { holder: mallory, id: 'x', remoteAddress: '192.0.2.1' }),
        'TUNNEL_GONE',
      ],
      [
        handedHead(opened.sid, fields, {
          holder: { ...alice, keyThumbprint: 'k' },
          id: 'x',
          remoteAddress: '192.0.2.1',
        }),
        'TUNNEL_GONE',
      ],
      // It does not ask a third one, and opens nothing.
      [
        handedHead('newer---.abc', fields, { holder: alice, id: 'x', remoteAddress: '192.0.2.1' }),
        'TUNNEL_GONE',
      ],
      [
        handedHead(opened.sid, fields, { holder: alice, id: 'x', remoteAddress: '192.0.2.1' }).replace(
          /GET \S+/,
          'GET /v4/connect?host=a&port=1',
        ),
        'REQUEST_INVALID',
      ],
    ];
    for (const [head, code] of cases) assert.equal(codeOf(await sendToOwner(head)), code, head);
    socket.terminate();
  });

  it('ends the tunnel when the rules do not allow it any more', async () => {
    const { socket, opened } = await openTunnel();
    const closed = once(socket, 'close');
    const tunnel = await peers.find(opened.sid, alice);
    assert.deepEqual(tunnel.target, { host: '127.0.0.1', port: echo.port });
    tunnel.revoke();
    assert.equal((await closed)[0], 4401);
    await assert.rejects(peers.find(opened.sid, alice), { code: 'TUNNEL_REVOKED' });
    await assert.rejects(peers.find(opened.sid, { ...alice, subject: 'mallory' }), {
      code: 'TUNNEL_GONE',
    });
  });
});
