import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import { sendRequest, withResponseTimeout } from '../../../client/http/exchange.ts';
import { answering, listen, rawServer } from '../support.ts';

const never = new AbortController().signal;
const question = {
  method: 'GET',
  path: '/',
  headers: { Host: 'x', Connection: 'Upgrade', Upgrade: 'x' },
} as const;

describe('exchange()', () => {
  it('takes silence for a way that is blocked, long before everything is over', async (t) => {
    const port = await listen(
      t,
      rawServer((socket) => void socket.resume()),
    );
    const socket = await direct.connect({ host: '127.0.0.1', port }, never);
    const asked = sendRequest(socket, { ...question, peer: 'x', answerMs: 50 }, never);
    await assert.rejects(asked, { code: 'UPGRADE_REFUSED' });
    assert.ok(socket.destroyed);
  });

  it('skips informational answers', async (t) => {
    const informational = 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n';
    const switched = 'HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nearly';
    const port = await listen(t, answering(informational + switched));
    const socket = await direct.connect({ host: '127.0.0.1', port }, never);
    const answer = await sendRequest(socket, { ...question, peer: 'x' }, never);
    assert.deepEqual([answer.status, answer.switched], [101, true]);
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    assert.equal(chunk.toString(), 'early');
    socket.destroy();
  });

  it('names itself and asks nothing to be kept alive', async (t) => {
    let seen = '';
    const port = await listen(
      t,
      rawServer((socket, head) => {
        seen = head;
        socket.end('HTTP/1.1 200 OK\r\n\r\n');
      }),
    );
    const socket = await direct.connect({ host: '127.0.0.1', port }, never);
    const headers = { Host: 'box:22' };
    await sendRequest(socket, { method: 'CONNECT', path: 'box:22', headers, peer: 'x' }, never);
    assert.match(seen, /^CONNECT box:22 HTTP\/1\.1\r\nUser-Agent: postern\/[\d.]+\r\nHost: box:22\r\n\r\n$/);
    socket.destroy();
  });
});

function timers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
}

describe('withResponseTimeout()', () => {
  for (const [when, wait] of [
    ['aborts', (stop: AbortController): void => stop.abort()],
    ['has aborted', (): void => {}],
  ] as const) {
    it(`leaves no timer behind where its signal ${when}`, async () => {
      const before = timers();
      const stop = new AbortController();
      if (when === 'has aborted') stop.abort();
      const failed = new Promise<{ code?: string }>((resolve) => {
        withResponseTimeout({ peer: 'x' }, stop.signal, resolve);
      });
      wait(stop);
      assert.equal((await failed).code, 'GATEWAY_TIMEOUT');
      assert.equal(timers(), before);
    });
  }
});
