import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import type { EndReason } from '../../../protocol/end-reason.ts';
import { codeOf, dial, exchange, startEcho, startParts, startTarget } from '../support/gateway-parts.ts';
import { outcome, peers, upgradeHead } from '../support/peers.ts';

const told: [reason: EndReason, code: string][] = [
  ['REVOKED', 'TUNNEL_REVOKED'],
  ['KILLED', 'TUNNEL_KILLED'],
  ['SESSION_EXPIRED', 'TUNNEL_EXPIRED'],
  ['POLICY', 'TARGET_DENIED'],
  ['GATEWAY_STOPPED', 'TUNNEL_STOPPED'],
];
const everyone = (): boolean => true;

for (const peer of peers) {
  describe(`a tunnel by ${peer.name} that the gateway ends`, () => {
    for (const [reason, code] of told) {
      it(`for ${reason} says so at both ends`, async () => {
        const echo = await startEcho();
        const gateway = await startParts();
        const tunnel = await peer.open(gateway.port, `127.0.0.1:${echo.port}`);
        tunnel.write('here?');
        await once(tunnel, 'data');
        assert.equal(gateway.sessions.endWhere(everyone, reason, 'as the test says'), 1);
        // After CONNECT there is no room for a reason.
        assert.equal(await outcome(tunnel), peer.name === 'connect' ? 'ECONNRESET' : code);
        await gateway.endedCount(1);
        assert.deepEqual([gateway.ended[0]!.end, gateway.ended[0]!.reason], [reason, 'as the test says']);
        await gateway.close();
        echo.close();
      });
    }

    it('ends within a second although the client reads nothing, and the target is cut off at once', async () => {
      const cut = Promise.withResolvers<void>();
      const flood = await startTarget((socket) => {
        const chunk = Buffer.alloc(64 * 1024);
        const more = (): void => {
          while (socket.write(chunk));
        };
        socket.on('drain', more);
        socket.on('close', () => cut.resolve());
        more();
      });
      const gateway = await startParts();
      const tunnel = await peer.open(gateway.port, `127.0.0.1:${flood.port}`);
      tunnel.on('error', () => {});
      await once(tunnel, 'readable');
      const startedAt = performance.now();
      gateway.sessions.endWhere(everyone, 'REVOKED', '');
      await Promise.all([gateway.endedCount(1), cut.promise]);
      assert.ok(performance.now() - startedAt < 1000);
      tunnel.destroy();
      await gateway.close();
      flood.close();
    });
  });
}

describe('an offer', () => {
  const ask = upgradeHead('/ssh/tcp/box/22/', 'connect-tcp', 'Authorization: Bearer good\r\n');

  it('with a token that is revoked is refused like any bad token, and the audit knows why', async () => {
    const gateway = await startParts({ revocations: { isRevoked: ({ subject }) => subject === 'alice' } });
    assert.equal(codeOf(await exchange(gateway.port, ask)), 'TOKEN_INVALID');
    assert.match(gateway.ended[0]!.reason ?? '', /revoked/);
    assert.equal(gateway.ended[0]!.principal?.subject, 'alice');
    await gateway.close();
  });

  for (const [reason, code] of [
    ['REVOKED', 'TOKEN_INVALID'],
    ['KILLED', 'TUNNEL_KILLED'],
    ['GATEWAY_STOPPED', 'DRAINING'],
  ] as const) {
    it(`that is ended for ${reason} while it is dialled is refused with ${code}`, async () => {
      const dialling = Promise.withResolvers<void>();
      const gateway = await startParts({
        dialer: {
          dial: (_grant, signals) =>
            new Promise((_resolve, reject) => {
              for (const signal of signals)
                signal.addEventListener('abort', () => reject(new Error('aborted')));
              dialling.resolve();
            }),
        },
      });
      const asking = exchange(gateway.port, ask);
      await dialling.promise;
      assert.equal(
        gateway.sessions.endWhere(({ principal }) => principal?.subject === 'bob', reason, ''),
        0,
      );
      assert.equal(
        gateway.sessions.endWhere(({ principal }) => principal?.subject === 'alice', reason, 'why'),
        1,
      );
      assert.equal(codeOf(await asking), code);
      assert.deepEqual([gateway.ended[0]!.end, gateway.ended[0]!.reason], [code, 'why']);
      await gateway.close();
    });
  }
});

it('a client that has gone does not matter to who ends tunnels', async () => {
  const echo = await startEcho();
  const gateway = await startParts();
  const socket = await dial(gateway.port);
  socket.resetAndDestroy();
  assert.equal(gateway.sessions.endWhere(everyone, 'KILLED', ''), 0);
  await gateway.close();
  echo.close();
});
