import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { controlApp } from '../../../server/admin/control.ts';
import type { PeerControl } from '../../../server/admin/control.ts';

/** The steps of a kill in their order. Peers answer after `peerMs`; undefined: too late to wait for. */
async function kill(
  peerMs: number | undefined,
  request: object = { subject: 'alice', revoke: true },
): Promise<{ readonly body: unknown; readonly order: readonly string[] }> {
  const order: string[] = [];
  const peers: PeerControl = {
    sessions: async () => [],
    listSessions: async () => ({ sessions: [], silent: [] }),
    async kill() {
      order.push('peers are requested');
      await delay(peerMs ?? 800);
      order.push('peers have answered');
      return peerMs === undefined ? { ended: 0, silent: 1 } : { ended: 18, silent: 0 };
    },
  };
  const app = controlApp(
    {
      sessions: () => [],
      async kill() {
        order.push('ended here');
        return { ended: 12 };
      },
    },
    peers,
  );
  const response = await app.inject({
    method: 'POST',
    url: '/kill',
    payload: request,
  });
  await app.close();
  return { body: response.json<unknown>(), order };
}

describe('controlApp(): kill', () => {
  it('revokes after the peers have ended and counted their sessions', async () => {
    const { body, order } = await kill(50);
    assert.deepEqual(body, { ended: 30, silent: 0 });
    assert.deepEqual(order, ['peers are requested', 'peers have answered', 'ended here']);
  });

  it('does not wait for a silent peer before it revokes', async () => {
    const { body, order } = await kill(undefined);
    assert.deepEqual(body, { ended: 12, silent: 1 });
    assert.deepEqual(order, ['peers are requested', 'ended here', 'peers have answered']);
  });

  for (const request of [{ tokenId: 'one' }, { keyThumbprint: 'one' }]) {
    it(`does the same for ${Object.keys(request)[0]}`, async () => {
      const { order } = await kill(50, request);
      assert.deepEqual(order, ['peers are requested', 'peers have answered', 'ended here']);
    });
  }

  it('ends its own sessions at once where nothing is revoked', async () => {
    const { body, order } = await kill(50, { sessions: ['one'] });
    assert.deepEqual(body, { ended: 30, silent: 0 });
    assert.deepEqual(order, ['peers are requested', 'ended here', 'peers have answered']);
  });
});
