import type { Socket } from 'node:net';
import { formatTarget } from '../../../protocol/target.ts';
import type { Target } from '../../../protocol/target.ts';
import { Failure, toFailure } from '../../errors/failure.ts';
import { networkId } from '../../os/network-id.ts';
import { connectAlong, isWayBlocked } from './try-hops.ts';
import { parseProxy, stepName } from '../proxy/proxy-url.ts';
import type { Step } from '../proxy/proxy-url.ts';
import { isExceptedBySystem } from '../system/system-proxy.ts';
import type { SystemProxy } from '../system/system-proxy.ts';
import { readSystemProxy } from '../system/settings.ts';
import { trustOf } from '../tls/trust.ts';
import { wayMemory } from './route-cache.ts';
import type { Verdict, Way } from './route.ts';

/** Settings change, PAC files too; when the way that is remembered is blocked, they are asked earlier. */
const keptMs = 30 * 60_000;
/** A PAC file that cannot be had may come with the VPN, and that with the same network. */
const troubledMs = 60_000;

/** Where a PAC file is looked for when the system says no more than that there is one. */
const autoDetected = 'http://wpad/wpad.dat';

/** The same question of two tunnels at once is asked once. */
const asking = new Map<string, Promise<Verdict>>();

/** Connects by the way that a PAC file or the system names. The caller owns the socket. Throws as `Egress.connect`. */
export async function connectDiscovered(way: Way, gateway: Target, signal: AbortSignal): Promise<Socket> {
  const { verdict, isRemembered } = await verdictFor(way, gateway, signal);
  try {
    return await connectAlong(verdict, { way, gateway, signal });
  } catch (error) {
    if (!isRemembered || !isWayBlocked(error) || signal.aborted) throw error;
    const now = await ask(way, gateway, signal);
    if (namesOf(now) === namesOf(verdict)) throw error;
    return connectAlong(now, { way, gateway, signal });
  }
}

/** What is known about the way from this network, or is found out now. */
export async function verdictFor(
  way: Way,
  gateway: Target,
  signal: AbortSignal,
): Promise<{ readonly verdict: Verdict; readonly isRemembered: boolean }> {
  const remembered = wayMemory(way.state).recall(questionOf(way, gateway));
  if (remembered !== undefined) return { verdict: remembered, isRemembered: true };
  return { verdict: await ask(way, gateway, signal), isRemembered: false };
}

/** Whoever asks first may give up before the others: each waits by its own signal, and what is asked has limits of its own. */
function ask(way: Way, gateway: Target, signal: AbortSignal): Promise<Verdict> {
  const question = questionOf(way, gateway);
  const key = `${networkId()} ${way.state} ${question}`;
  let asked = asking.get(key);
  if (asked === undefined) {
    asked = discover(way, gateway, new AbortController().signal)
      .then((verdict) => {
        wayMemory(way.state).keep(question, verdict, verdict.trouble === undefined ? keptMs : troubledMs);
        return verdict;
      })
      .finally(() => asking.delete(key));
    asking.set(key, asked);
  }
  return within(asked, signal);
}

function within(asked: Promise<Verdict>, signal: AbortSignal): Promise<Verdict> {
  return new Promise((resolve, reject) => {
    const late = (): void =>
      reject(new Failure('GATEWAY_TIMEOUT', 'which proxy to take was not found out in time'));
    signal.addEventListener('abort', late, { once: true });
    if (signal.aborted) late();
    asked.then(resolve, reject).finally(() => signal.removeEventListener('abort', late));
  });
}

function questionOf({ proxy }: Way, gateway: Target): string {
  const who = proxy.pac?.location ?? `system ${proxy.system?.desktop ?? ''}`;
  return `${formatTarget(gateway)} ${who} ${proxy.http ?? ''}`;
}

function namesOf({ steps }: Verdict): string {
  return steps.map(stepName).join(' ');
}

async function discover(way: Way, gateway: Target, signal: AbortSignal): Promise<Verdict> {
  const { pac, system } = way.proxy;
  if (pac !== undefined) return byPac({ location: pac.location, source: pac.from }, way, { gateway, signal });
  const said = system && (await readSystemProxy(system, signal));
  return said === undefined ? nothingSaid(way) : bySystem(said, way, { gateway, signal });
}

interface Asked {
  readonly gateway: Target;
  readonly signal: AbortSignal;
}

/** As browsers do: what is detected first, then the PAC file, then the proxies that are written down. */
async function bySystem(said: SystemProxy, way: Way, asked: Asked): Promise<Verdict> {
  let trouble: string | undefined;
  if (said.autoDetect) {
    const found = await byPac({ location: autoDetected, source: `WPAD (${said.source})` }, way, asked);
    // Most networks have none, and the setting is on by default on some systems.
    if (found.trouble === undefined) return found;
  }
  if (said.pac !== undefined) {
    const found = await byPac({ location: said.pac, source: said.source }, way, asked);
    if (found.trouble === undefined) return found;
    trouble = found.trouble;
  }
  const { source, proxy } = said;
  if (proxy === undefined) return { ...nothingSaid(way), ...(trouble === undefined ? {} : { trouble }) };
  if (isExceptedBySystem(said, asked.gateway))
    return { source, why: 'its list of exceptions names the gateway', steps: ['direct'] };
  const steps = [parseProxy(proxy, `the proxy setting of ${source}`)];
  return { source, why: 'it is set there', steps, ...(trouble === undefined ? {} : { trouble }) };
}

function nothingSaid({ proxy }: Way): Verdict {
  const hint = proxy.http?.trim() ?? '';
  if (hint === '') return { source: 'nothing', why: 'no proxy is set', steps: ['direct'] };
  const why = 'it is set, and nothing says anything about https; straight if it does not help';
  return { source: 'HTTP_PROXY', why, steps: [parseProxy(hint, 'HTTP_PROXY'), 'direct'] };
}

/** A PAC file that cannot be had or does not run sends nobody anywhere: straight on, and the trouble is kept. */
async function byPac(
  { location, source }: { readonly location: string; readonly source: string },
  way: Way,
  { gateway, signal }: Asked,
): Promise<Verdict> {
  const { askPac } = await import('../pac/pac.ts');
  const why = 'its PAC file says so';
  try {
    const steps: readonly Step[] = await askPac(location, { gateway, trust: trustOf(way), signal });
    return { source, why, steps };
  } catch (error) {
    return { source, why: 'its PAC file is of no use', steps: ['direct'], trouble: toFailure(error).message };
  }
}
