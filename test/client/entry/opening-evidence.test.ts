import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import type { Egress } from '../../../client/egress/egress.ts';
import { openTcp } from '../../../client/egress/tcp/tcp.ts';
import { loadEntry, openTunnel } from '../../../client/entry/choose.ts';
import type { ReconnectSupport } from '../../../client/entry/entry.ts';
import { tunnelFile, tunnelsHere } from '../../../client/resume/tunnel-status-file.ts';
import { eventually } from '../../e2e/support/process.ts';
import { entryCache } from '../../../client/entry/entry-cache.ts';
import { entriesByPreference } from '../../../protocol/entries.ts';
import { Secret } from '../../../protocol/secret.ts';
import { startParts } from '../../server/support/gateway-parts.ts';
import { startCuttingFront } from '../../support/cutting-front.ts';
import type { CuttingPlan } from '../../support/cutting-front.ts';
import { temporaryDirectory } from '../support.ts';

import { openThrough, startEnds } from './opening-parts.ts';
const ends = startEnds();

/** The parts of an opening through this port. */
function partsOf(t: TestContext, port: number, token = 'good') {
  const gateway = new URL(`http://127.0.0.1:${port}/ssh/`);
  const target = { host: '127.0.0.1', port: ends.echo.port };
  const memory = entryCache(temporaryDirectory(t));
  return {
    gateway,
    request: { gateway, target, token: new Secret(token) },
    memory,
    choice: { load: loadEntry, memory, signal: AbortSignal.timeout(60_000) },
  };
}

describe('the opening of a tunnel, on final answers', () => {
  for (const [way, path] of [
    ['a token that is not valid', 'TOKEN_INVALID'],
    ['too many requests', 'LIMIT_ADDRESS'],
  ] as const) {
    it(`asks once after ${way}`, async (t) => {
      const front = await startCuttingFront({
        port: ends.parts.port,
        way: 'direct',
        treat: () => (path === 'LIMIT_ADDRESS' ? 429 : 'pass'),
      });
      t.after(() => front.close());
      const { gateway, request, memory, choice } = partsOf(t, front.port, 'bad');
      await assert.rejects(openTunnel(request, direct, choice), { code: path });
      assert.deepEqual(front.asked, ['relay']);
      assert.equal(memory.recall(gateway), undefined);
    });
  }

  it('asks each entry once where all are refused', async (t) => {
    for (const status of [401, 403, 404, 409]) {
      const front = await startCuttingFront({ port: ends.parts.port, way: 'direct', treat: () => status });
      t.after(() => front.close());
      const { request, choice } = partsOf(t, front.port);
      await assert.rejects(openTunnel(request, direct, choice), { code: 'HTTP_UNEXPECTED' });
      assert.deepEqual(front.asked, entriesByPreference);
    }
  });

  it('ends at once when it is aborted between two requests', async (t) => {
    const front = await startCuttingFront({ port: ends.parts.port, way: 'direct', treat: () => 'lose' });
    t.after(() => front.close());
    const abort = new AbortController();
    const { request, memory } = partsOf(t, front.port);
    const opened = openTunnel(request, direct, { load: loadEntry, memory, signal: abort.signal });
    const rejected = assert.rejects(opened, { code: 'HTTP_UNEXPECTED' });
    while (front.asked.length < 4) await new Promise((resolve) => setTimeout(resolve, 20));
    await new Promise((resolve) => setTimeout(resolve, 50));
    const before = front.asked.length;
    abort.abort();
    await rejected;
    assert.ok(front.asked.length <= before + 1);
  });

  for (const [via, resumable] of [
    ['relay', true],
    ['http', true],
    ['websocket', false],
    ['connect-tcp', false],
    ['connect', false],
  ] as const) {
    it(`tells what becomes of a tunnel by ${via}`, async (t) => {
      const gateway = new URL(`http://127.0.0.1:${ends.parts.port}/ssh/`);
      const state = temporaryDirectory(t);
      const target = { host: '127.0.0.1', port: ends.echo.port };
      const credential = { token: new Secret('good') };
      const later: ReconnectSupport = {
        withCredential: (_signal, use) => use(credential),
        warn() {},
        watch: tunnelFile(state, { gateway, target }),
      };
      const memory = entryCache(state);
      const choice = { load: loadEntry, memory, via, signal: AbortSignal.timeout(60_000) };
      const tunnel = await openTunnel({ gateway, target, ...credential, later }, direct, choice);
      await eventually(() => tunnelsHere(state).length === 1, 'the file of the tunnel');
      assert.equal(tunnelsHere(state)[0]!.resumable, resumable);
      tunnel.destroy();
      await eventually(() => tunnelsHere(state).length === 0, 'the end of the file');
    });
  }

  it('is made again while the gateway hands over to its successor', async (t) => {
    let isDraining = true;
    const draining = await startParts({ draining: () => isDraining });
    t.after(() => draining.close());
    const { gateway, request, memory, choice } = partsOf(t, draining.port);
    const startedAt = performance.now();
    const opened = openTunnel(request, direct, choice);
    await draining.endedCount(1);
    isDraining = false;
    (await opened).destroy();
    // The gateway says when: `Retry-After: 5`.
    assert.ok(performance.now() - startedAt >= 5000);
    assert.equal(memory.recall(gateway), 'relay');
  });

  it('waits for a name that cannot be resolved at the moment', async (t) => {
    let lookups = 0;
    const failing: Egress = {
      name: 'direct',
      connect: (address, signal) =>
        openTcp(
          {
            address: { ...address, host: 'gw.example' },
            name: 'gw.example',
            unreachable: 'GATEWAY_UNREACHABLE',
            timeout: 'GATEWAY_TIMEOUT',
            lookup: (_name, options, callback) => {
              const error = Object.assign(new Error('again'), { code: 'EAI_AGAIN' });
              if (++lookups < 3) callback(error, '', 0);
              else if (options.all) callback(null, [{ address: '127.0.0.1', family: 4 }]);
              else callback(null, '127.0.0.1', 4);
            },
          },
          signal,
        ),
    };
    const { gateway, request, memory, choice } = partsOf(t, ends.parts.port);
    (await openTunnel(request, failing, choice)).destroy();
    assert.deepEqual([lookups, memory.recall(gateway)], [3, 'relay']);
  });
});

describe('the opening of a tunnel, on evidence', { concurrency: 8 }, () => {
  it('takes plain requests where upgrades are stripped, with two requests', async (t) => {
    const { entry, front, memory, gateway } = await openThrough(t, ends, {
      way: 'direct',
      treat: () => 'strip',
    });
    assert.equal(entry, 'http');
    assert.deepEqual(
      front.asked.filter((name) => name !== 'data'),
      ['relay', 'http'],
    );
    assert.deepEqual([memory.recall(gateway), memory.isProvisional(gateway)], ['http', false]);
  });

  it('takes plain requests where upgrades are always reset, and holds it for provisional', async (t) => {
    const { entry, front, memory, gateway } = await openThrough(t, ends, {
      way: 'direct',
      treat: (name) => (name === 'http' ? 'pass' : 'lose'),
    });
    assert.equal(entry, 'http');
    assert.deepEqual(
      front.asked.filter((name) => name !== 'data'),
      ['relay', 'relay', 'relay', 'http', 'relay'],
    );
    assert.deepEqual([memory.recall(gateway), memory.isProvisional(gateway)], ['http', true]);
  });

  it('takes plain requests where upgrades are swallowed', async (t) => {
    const { entry, memory, gateway } = await openThrough(t, ends, {
      way: 'direct',
      treat: (name) => (name === 'http' ? 'pass' : 'swallow'),
    });
    assert.equal(entry, 'http');
    assert.deepEqual([memory.recall(gateway), memory.isProvisional(gateway)], ['http', true]);
  });

  it('takes plain requests where the web server answers 502 to upgrades', async (t) => {
    const { entry, front, memory, gateway } = await openThrough(t, ends, {
      way: 'direct',
      treat: (name) => (name === 'http' ? 'pass' : 502),
    });
    assert.equal(entry, 'http');
    assert.deepEqual(
      front.asked.filter((name) => name !== 'data'),
      ['relay', 'relay', 'http', 'relay'],
    );
    assert.equal(memory.isProvisional(gateway), true);
  });

  it('comes back to the relay when it passes while plain requests are confirmed', async (t) => {
    let relays = 0;
    const treat: CuttingPlan['treat'] = (name) => (name === 'relay' && ++relays <= 3 ? 'lose' : 'pass');
    const { entry, memory, gateway } = await openThrough(t, ends, { way: 'direct', treat });
    assert.equal(entry, 'relay');
    assert.equal(memory.recall(gateway), 'relay');
  });

  it('remembers no entry that cannot resume where the others were only lost', async (t) => {
    const { entry, memory, gateway } = await openThrough(t, ends, {
      way: 'direct',
      treat: (name) => (name === 'websocket' ? 'pass' : 'lose'),
    });
    assert.equal(entry, 'websocket');
    assert.equal(memory.recall(gateway), undefined);
  });
});
