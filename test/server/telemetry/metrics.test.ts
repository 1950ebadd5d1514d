import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { TunnelError } from '../../../protocol/errors.ts';
import { Metrics } from '../../../server/telemetry/metrics.ts';
import type { Dialer } from '../../../server/dial/dialer.ts';
import { openTunnel, rejoinTunnel, Wire } from '../../hostile/support/relay-wire.ts';
import { dial, loopbackDialer, readHead, startEcho, startParts } from '../support/gateway-parts.ts';
import type { Parts } from '../support/gateway-parts.ts';
import { turn } from '../../hostile/support/lost-tunnel.ts';

/** The port whose dial fails, and the one whose dial lasts until the caller leaves. */
const [refused, hanging] = [1, 2];

const dialer: Dialer = {
  async dial(grant, signals) {
    if (grant.address.port === refused) throw new TunnelError('DIAL_REFUSED', 'a test');
    if (grant.address.port !== hanging) return loopbackDialer.dial(grant, signals);
    const signal = AbortSignal.any([...signals]);
    await once(signal, 'abort');
    throw signal.reason;
  },
};

describe('the metrics', () => {
  const metrics = new Metrics();
  let gateway: Parts;
  let echo: Awaited<ReturnType<typeof startEcho>>;
  before(async () => {
    echo = await startEcho();
    gateway = await startParts({ observers: [metrics], dialer });
  });
  after(async () => {
    await gateway.close();
    echo.close();
  });

  /** The sum over the labels that match. */
  async function sum(name: string, label = ''): Promise<number> {
    const text = await metrics.text();
    const lines = text.split('\n').filter((line) => /^\w+/.exec(line)?.[0] === `postern_${name}`);
    return lines
      .filter((line) => line.includes(label))
      .reduce((all, line) => all + Number(line.slice(line.lastIndexOf(' '))), 0);
  }

  async function assertBalanced(active: number): Promise<void> {
    const [opened, closed] = [await sum('tunnels_opened_total'), await sum('tunnels_closed_total')];
    assert.deepEqual([opened - closed, await sum('tunnels_active')], [active, active]);
  }

  async function request(port: number): Promise<string> {
    const socket = await dial(gateway.port);
    socket.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n`);
    const head = await readHead(socket);
    socket.destroy();
    return head;
  }

  it('have as many open tunnels as were opened and not closed, whatever became of them', async () => {
    const [one, two] = [await openTunnel(gateway.port, echo.port), await openTunnel(gateway.port, echo.port)];
    await assertBalanced(2);
    // Lost and resumed.
    one.wire.drop();
    while (gateway.relays.detachedCount === 0) await turn();
    assert.equal(await sum('tunnels_detached'), 1);
    assert.ok((await rejoinTunnel(gateway.port, one.known, { count: 1 })) instanceof Wire);
    assert.equal(await sum('tunnels_detached'), 0);
    await assertBalanced(2);
    // Killed, once with a connection and once without.
    two.wire.drop();
    while (gateway.relays.detachedCount === 0) await turn();
    gateway.sessions.endWhere(({ openedAt }) => openedAt !== undefined, 'KILLED', 'a test');
    await gateway.endedCount(3);
    assert.equal(await sum('tunnels_closed_total', 'cause="KILLED"'), 2);
    assert.equal(await sum('tunnels_detached'), 0);
    await assertBalanced(0);
  });

  it('count a client that leaves before its tunnel is open as that, and not as a closed tunnel', async () => {
    const closed = await sum('tunnels_closed_total');
    const socket = await dial(gateway.port);
    const ended = gateway.ended.length;
    socket.write(`CONNECT 127.0.0.1:${hanging} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n`);
    while ([...gateway.sessions.records()].every(({ grant }) => grant === undefined)) await turn();
    socket.resetAndDestroy();
    await gateway.endedCount(ended + 1);
    assert.equal(await sum('tunnels_closed_total'), closed);
    assert.equal(await sum('offers_abandoned_total', 'entry="connect"'), 1);
    assert.equal(await sum('dial_duration_seconds_count', 'code="CLIENT_GONE"'), 1);
    await assertBalanced(0);
  });

  it('have the time of dials that failed, by code', async () => {
    const before = await sum('dial_duration_seconds_count', 'code="OK"');
    assert.match(await request(refused), /DIAL_REFUSED/);
    assert.equal(await sum('dial_duration_seconds_count', 'code="DIAL_REFUSED"'), 1);
    assert.match(await request(echo.port), / 200 /);
    assert.equal(await sum('dial_duration_seconds_count', 'code="OK"'), before + 1);
    assert.equal(await sum('offers_refused_total', 'code="DIAL_REFUSED"'), 1);
  });
});
