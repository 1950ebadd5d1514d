import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import type { Egress } from '../../../client/egress/egress.ts';
import { httpProxy } from '../../../client/egress/proxy/http-proxy.ts';
import { secureEgress } from '../../../client/egress/tls/tls.ts';
import { loadEntry, openTunnel } from '../../../client/entry/choose.ts';
import type { LoadEntry } from '../../../client/entry/choose.ts';
import { entryCache } from '../../../client/entry/entry-cache.ts';
import type { EntryCache } from '../../../client/entry/entry-cache.ts';
import { entriesByPreference, entryFacts } from '../../../protocol/entries.ts';
import type { EntryName } from '../../../protocol/entries.ts';
import { Secret } from '../../../protocol/secret.ts';
import { startEcho, startParts } from '../../server/support/gateway-parts.ts';
import type { Parts } from '../../server/support/gateway-parts.ts';
import { stages, startCuttingFront } from '../../support/cutting-front.ts';
import type { CuttingFront, CuttingPlan, Stage, Way } from '../../support/cutting-front.ts';
import type { Fault } from '../../support/fault-proxy.ts';
import { authority } from '../certificates.ts';
import { temporaryDirectory } from '../support.ts';

const isLong = Boolean(process.env['POSTERN_LONG']);

/** What is known of a tunnel that was opened. */
interface Outcome {
  readonly entry: EntryName;
  readonly front: CuttingFront;
  readonly memory: EntryCache;
  readonly gateway: URL;
}

let parts: Parts;
let echo: { port: number; close(): void };
before(async () => {
  parts = await startParts();
  echo = await startEcho();
});
after(async () => {
  echo.close();
  await parts.close();
});

/** Opens a tunnel through such a front, sends something through it, and closes it. */
async function open(
  t: TestContext,
  plan: Omit<CuttingPlan, 'port'>,
  state = temporaryDirectory(t),
): Promise<Outcome> {
  const front = await startCuttingFront({ port: parts.port, ...plan });
  t.after(() => front.close());
  const scheme = plan.way === 'direct' ? 'http' : 'https';
  const gateway = new URL(`${scheme}://127.0.0.1:${front.port}/ssh/`);
  const opened = new Map<Duplex, EntryName>();
  const load: LoadEntry = async (name) => {
    const entry = await loadEntry(name);
    return {
      name,
      async open(...args) {
        const tunnel = await entry.open(...args);
        opened.set(tunnel, name);
        return tunnel;
      },
    };
  };
  const memory = entryCache(state);
  const request = {
    gateway,
    target: { host: '127.0.0.1', port: echo.port },
    token: new Secret('good'),
  };
  const tunnel = await openTunnel(request, egressFor(plan.way, front.port, state), {
    load,
    memory,
    signal: AbortSignal.timeout(60_000),
  });
  t.after(() => tunnel.destroy());
  tunnel.write('hello');
  for (let heard = ''; heard !== 'hello';) heard += ((await once(tunnel, 'data')) as [Buffer])[0].toString();
  return { entry: opened.get(tunnel)!, front, memory, gateway };
}

function egressFor(way: Way, port: number, state: string): Egress {
  if (way === 'direct') return direct;
  const caFile = join(state, 'ca.pem');
  writeFileSync(caFile, authority);
  const address = { host: '127.0.0.1', port };
  return secureEgress(way === 'proxy' ? httpProxy({ address, tls: false }) : direct, { caFile });
}

/** Lets one entry through and refuses the others, as a proxy does that was told so. */
function only(entry: EntryName): CuttingPlan['treat'] {
  return (name) => (name === entry ? 'pass' : 403);
}

/** Whether a cut at this stage can be met on this way, by the opening and not by what follows it. */
function isMet(way: Way, entry: EntryName, stage: Stage): boolean {
  if (stage.startsWith('proxy')) return way === 'proxy';
  if (stage === 'tls') return way !== 'direct';
  // A tunnel that is open, and cannot be resumed, ends with its connection.
  if (stage === 'opened' || stage === 'first data') return entryFacts(entry).resumable;
  return true;
}

const ways: readonly Way[] = ['direct', 'tls', 'proxy'];
const faults: readonly Fault[] = ['reset', 'end', 'silence'];

interface Case {
  readonly way: Way;
  readonly entry: EntryName;
  readonly stage: Stage;
  readonly fault: Fault;
  readonly times: number;
}

const all: readonly Case[] = ways.flatMap((way) =>
  entriesByPreference.flatMap((entry) =>
    stages
      .filter((stage) => isMet(way, entry, stage))
      .flatMap((stage) =>
        faults.flatMap((fault) =>
          // Each silence takes its time.
          (fault === 'silence' ? [1] : [1, 2]).map((times) => ({ way, entry, stage, fault, times })),
        ),
      ),
  ),
);

/** Every stage and kind of each entry directly, and each stage of the others ways once. */
const usual = all.filter(
  ({ way, entry, stage, fault, times }, at) =>
    times === 1 &&
    (fault !== 'silence' || (way === 'direct' && entry === 'relay')) &&
    (way === 'direct' || entry === 'relay' || at % 11 === 0 || stage.startsWith('proxy')),
);

describe('the opening of a tunnel, when connections are cut', { concurrency: 24 }, () => {
  for (const one of isLong ? all : usual) {
    const { way, entry, stage, fault, times } = one;
    const often = times === 1 ? '' : ' twice';
    it(`${way}, only ${entry} passes: ${fault} at ${stage}${often}`, async (t) => {
      const { front, memory, gateway, ...found } = await open(t, {
        way,
        cut: { stage, fault, times },
        treat: only(entry),
      });
      assert.equal(front.cuts, times);
      assert.equal(found.entry, entry);
      assert.equal(memory.recall(gateway), entry);
      assert.equal(memory.isProvisional(gateway), false);
    });
  }

  for (const fault of ['reset', 'end'] as const) {
    for (const stage of ['connection', 'request', 'answer', 'opened'] as const) {
      it(`everything passes, but ${fault} at ${stage} twice: the relay is used`, async (t) => {
        const { entry, front, memory, gateway } = await open(t, {
          way: 'direct',
          cut: { stage, fault, times: 2 },
          treat: () => 'pass',
        });
        assert.equal(entry, 'relay');
        assert.equal(memory.recall(gateway), 'relay');
        assert.equal(front.asked.filter((name) => name !== 'relay').length, 0);
      });
    }
  }
});

describe('the opening of a tunnel, on evidence', { concurrency: 8 }, () => {
  it('takes plain requests where upgrades are stripped, with two requests', async (t) => {
    const { entry, front, memory, gateway } = await open(t, { way: 'direct', treat: () => 'strip' });
    assert.equal(entry, 'http');
    assert.deepEqual(
      front.asked.filter((name) => name !== 'data'),
      ['relay', 'http'],
    );
    assert.deepEqual([memory.recall(gateway), memory.isProvisional(gateway)], ['http', false]);
  });

  it('takes plain requests where upgrades are always reset, and holds it for provisional', async (t) => {
    const { entry, front, memory, gateway } = await open(t, {
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
    const { entry, memory, gateway } = await open(t, {
      way: 'direct',
      treat: (name) => (name === 'http' ? 'pass' : 'swallow'),
    });
    assert.equal(entry, 'http');
    assert.deepEqual([memory.recall(gateway), memory.isProvisional(gateway)], ['http', true]);
  });

  it('takes plain requests where the web server answers 502 to upgrades', async (t) => {
    const { entry, front, memory, gateway } = await open(t, {
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
    const { entry, memory, gateway } = await open(t, { way: 'direct', treat });
    assert.equal(entry, 'relay');
    assert.equal(memory.recall(gateway), 'relay');
  });

  it('remembers no entry that cannot resume where the others were only lost', async (t) => {
    const { entry, memory, gateway } = await open(t, {
      way: 'direct',
      treat: (name) => (name === 'websocket' ? 'pass' : 'lose'),
    });
    assert.equal(entry, 'websocket');
    assert.equal(memory.recall(gateway), undefined);
  });
});
