import type { Socket } from 'node:net';
import { formatTarget } from '../../../protocol/target.ts';
import type { Target } from '../../../protocol/target.ts';
import { ClientError, toFailure } from '../../errors/failure.ts';
import { networkId } from '../../os/network-id.ts';
import { connectViaRoute, isRouteFailure } from './try-hops.ts';
import { parseProxy, stepName } from '../proxy/proxy-url.ts';
import type { Hop } from '../proxy/proxy-url.ts';
import { isExceptedBySystem } from '../system/system-proxy.ts';
import type { SystemProxy } from '../system/system-proxy.ts';
import { readSystemProxy } from '../system/settings.ts';
import { trustOf } from '../tls/trust.ts';
import { routeCache } from './route-cache.ts';
import type { Route, RouteRequest } from './route.ts';

/** Settings change, PAC files too; when the way that is remembered is blocked, they are asked earlier. */
const keptMs = 30 * 60_000;
/** A PAC file that cannot be had may come with the VPN, and that with the same network. */
const troubledMs = 60_000;

/** Where a PAC file is looked for when the system says no more than that there is one. */
const autoDetected = 'http://wpad/wpad.dat';

/** The same question of two tunnels at once is asked once. */
const asking = new Map<string, Promise<Route>>();

/** Connects by the way that a PAC file or the system names. The caller owns the socket. Throws as `Egress.connect`. */
export async function connectDiscovered(request: RouteRequest, gateway: Target, signal: AbortSignal): Promise<Socket> {
  const { verdict, isRemembered } = await routeFor(request, gateway, signal);
  try {
    return await connectViaRoute(verdict, { way: request, gateway, signal });
  } catch (error) {
    if (!isRemembered || !isRouteFailure(error) || signal.aborted) throw error;
    const now = await ask(request, gateway, signal);
    if (namesOf(now) === namesOf(verdict)) throw error;
    return connectViaRoute(now, { way: request, gateway, signal });
  }
}

/** What is known about the way from this network, or is found out now. */
export async function routeFor(
  request: RouteRequest,
  gateway: Target,
  signal: AbortSignal,
): Promise<{ readonly verdict: Route; readonly isRemembered: boolean }> {
  const remembered = routeCache(request.state).recall(questionOf(request, gateway));
  if (remembered !== undefined) return { verdict: remembered, isRemembered: true };
  return { verdict: await ask(request, gateway, signal), isRemembered: false };
}

/** Whoever asks first may give up before the others: each waits by its own signal, and what is asked has limits of its own. */
function ask(request: RouteRequest, gateway: Target, signal: AbortSignal): Promise<Route> {
  const question = questionOf(request, gateway);
  const key = `${networkId()} ${request.state} ${question}`;
  let asked = asking.get(key);
  if (asked === undefined) {
    asked = discover(request, gateway, new AbortController().signal)
      .then((verdict) => {
        routeCache(request.state).keep(question, verdict, verdict.trouble === undefined ? keptMs : troubledMs);
        return verdict;
      })
      .finally(() => asking.delete(key));
    asking.set(key, asked);
  }
  return within(asked, signal);
}

function within(asked: Promise<Route>, signal: AbortSignal): Promise<Route> {
  return new Promise((resolve, reject) => {
    const late = (): void =>
      reject(new ClientError('GATEWAY_TIMEOUT', 'which proxy to take was not found out in time'));
    signal.addEventListener('abort', late, { once: true });
    if (signal.aborted) late();
    asked.then(resolve, reject).finally(() => signal.removeEventListener('abort', late));
  });
}

function questionOf({ proxy }: RouteRequest, gateway: Target): string {
  const who = proxy.pac?.location ?? `system ${proxy.system?.desktop ?? ''}`;
  return `${formatTarget(gateway)} ${who} ${proxy.http ?? ''}`;
}

function namesOf({ steps }: Route): string {
  return steps.map(stepName).join(' ');
}

async function discover(request: RouteRequest, gateway: Target, signal: AbortSignal): Promise<Route> {
  const { pac, system } = request.proxy;
  if (pac !== undefined) return byPac({ location: pac.location, source: pac.from }, request, { gateway, signal });
  const said = system && (await readSystemProxy(system, signal));
  return said === undefined ? nothingSaid(request) : bySystem(said, request, { gateway, signal });
}

interface Asked {
  readonly gateway: Target;
  readonly signal: AbortSignal;
}

/** As browsers do: what is detected first, then the PAC file, then the proxies that are written down. */
async function bySystem(said: SystemProxy, request: RouteRequest, asked: Asked): Promise<Route> {
  let trouble: string | undefined;
  if (said.autoDetect) {
    const found = await byPac({ location: autoDetected, source: `WPAD (${said.source})` }, request, asked);
    // Most networks have none, and the setting is on by default on some systems.
    if (found.trouble === undefined) return found;
  }
  if (said.pac !== undefined) {
    const found = await byPac({ location: said.pac, source: said.source }, request, asked);
    if (found.trouble === undefined) return found;
    trouble = found.trouble;
  }
  const { source, proxy } = said;
  if (proxy === undefined) return { ...nothingSaid(request), ...(trouble === undefined ? {} : { trouble }) };
  if (isExceptedBySystem(said, asked.gateway))
    return { source, why: 'its list of exceptions names the gateway', steps: ['direct'] };
  const steps = [parseProxy(proxy, `the proxy setting of ${source}`)];
  return { source, why: 'it is set there', steps, ...(trouble === undefined ? {} : { trouble }) };
}

function nothingSaid({ proxy }: RouteRequest): Route {
  const hint = proxy.http?.trim() ?? '';
  if (hint === '') return { source: 'nothing', why: 'no proxy is set', steps: ['direct'] };
  const why = 'it is set, and nothing says anything about https; straight if it does not help';
  return { source: 'HTTP_PROXY', why, steps: [parseProxy(hint, 'HTTP_PROXY'), 'direct'] };
}

/** A PAC file that cannot be had or does not run sends nobody anywhere: straight on, and the trouble is kept. */
async function byPac(
  { location, source }: { readonly location: string; readonly source: string },
  request: RouteRequest,
  { gateway, signal }: Asked,
): Promise<Route> {
  const { askPac } = await import('../pac/pac.ts');
  const why = 'its PAC file says so';
  try {
    const steps: readonly Hop[] = await askPac(location, { gateway, trust: trustOf(request), signal });
    return { source, why, steps };
  } catch (error) {
    return { source, why: 'its PAC file is of no use', steps: ['direct'], trouble: toFailure(error).message };
  }
}
