import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { after, before } from 'node:test';
import type { TestContext } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import type { Egress } from '../../../client/egress/egress.ts';
import { httpProxy } from '../../../client/egress/proxy/http-proxy.ts';
import { secureEgress } from '../../../client/egress/tls/tls.ts';
import { loadEntry, openTunnel } from '../../../client/entry/choose.ts';
import type { LoadEntry } from '../../../client/entry/choose.ts';
import { entryCache } from '../../../client/entry/entry-cache.ts';
import type { EntryCache } from '../../../client/entry/entry-cache.ts';
import type { EntryName } from '../../../protocol/entries.ts';
import { Secret } from '../../../protocol/secret.ts';
import { startEcho, startParts } from '../../server/support/gateway-parts.ts';
import type { Parts } from '../../server/support/gateway-parts.ts';
import { startCuttingFront } from '../../support/cutting-front.ts';
import type { CuttingFront, CuttingPlan, Way } from '../../support/cutting-front.ts';
import { authority } from '../certificates.ts';
import { temporaryDirectory } from '../support.ts';

/** What is known of a tunnel that was opened. */
export interface Outcome {
  readonly entry: EntryName;
  readonly front: CuttingFront;
  readonly memory: EntryCache;
  readonly gateway: URL;
}

/** A gateway and a target that echoes, for the tests of a file. */
export interface Ends {
  readonly parts: Parts;
  readonly echo: { readonly port: number; close(): void };
}

/** Starts both before the tests of a file, and stops them after. The result is filled in by then. */
export function startEnds(): Ends {
  const ends = {} as { parts: Parts; echo: Ends['echo'] };
  before(async () => {
    ends.parts = await startParts();
    ends.echo = await startEcho();
  });
  after(async () => {
    ends.echo.close();
    await ends.parts.close();
  });
  return ends;
}

/** Opens a tunnel through such a front, sends something through it, and closes it. */
export async function openThrough(
  t: TestContext,
  { parts, echo }: Ends,
  plan: Omit<CuttingPlan, 'port'>,
): Promise<Outcome> {
  const state = temporaryDirectory(t);
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
