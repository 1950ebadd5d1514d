import type { Socket } from 'node:net';
import { onAbort } from '../../../base/deadline.ts';
import { formatTarget } from '../../../protocol/target.ts';
import type { Target } from '../../../protocol/target.ts';
import { ClientError, toFailure } from '../../errors/failure.ts';
import { networkId } from '../../os/network-id.ts';
import { connectViaRoute, isRouteFailure } from './try-hops.ts';
import { parseProxy, hopName } from '../proxy/proxy-url.ts';
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
const running = new Map<string, Promise<Route>>();

/** Connects by the way that a PAC file or the system names. The caller owns the socket. Throws as `Egress.connect`. */
export async function connectDiscovered(
  request: RouteRequest,
  gateway: Target,
  signal: AbortSignal,
): Promise<Socket> {
  const { route, isRemembered } = await routeFor(request, gateway, signal);
  try {
    return await connectViaRoute(route, { request, gateway, signal });
  } catch (error) {
    if (!isRemembered || !isRouteFailure(error) || signal.aborted) throw error;
    const now = await discoverOnce(request, gateway, signal);
    if (namesOf(now) === namesOf(route)) throw error;
    return connectViaRoute(now, { request, gateway, signal });
  }
}

/** What is known about the way from this network, or is found out now. */
export async function routeFor(
  request: RouteRequest,
  gateway: Target,
  signal: AbortSignal,
): Promise<{ readonly route: Route; readonly isRemembered: boolean }> {
  const remembered = routeCache(request.state).recall(cacheKey(request, gateway));
  if (remembered !== undefined) return { route: remembered, isRemembered: true };
  return { route: await discoverOnce(request, gateway, signal), isRemembered: false };
}

/** Whoever asks first may give up before the others: each waits by its own signal, and what is asked has limits of its own. */
function discoverOnce(request: RouteRequest, gateway: Target, signal: AbortSignal): Promise<Route> {
  const question = cacheKey(request, gateway);
  const key = `${networkId()} ${request.state} ${question}`;
  let pending = running.get(key);
  if (pending === undefined) {
    pending = discover(request, gateway, new AbortController().signal)
      .then((route) => {
        routeCache(request.state).keep(question, route, route.pacError === undefined ? keptMs : troubledMs);
        return route;
      })
      .finally(() => running.delete(key));
    running.set(key, pending);
  }
  return withAbort(pending, signal);
}

function withAbort(pending: Promise<Route>, signal: AbortSignal): Promise<Route> {
  return new Promise((resolve, reject) => {
    const removeListener = onAbort(signal, () =>
      reject(new ClientError('GATEWAY_TIMEOUT', 'the choice of a proxy took too long')),
    );
    pending.then(resolve, reject).finally(removeListener);
  });
}

function cacheKey({ proxy }: RouteRequest, gateway: Target): string {
  const source = proxy.pac?.location ?? `system ${proxy.system?.desktop ?? ''}`;
  return `${formatTarget(gateway)} ${source} ${proxy.http ?? ''}`;
}

function namesOf({ hops }: Route): string {
  return hops.map(hopName).join(' ');
}

async function discover(request: RouteRequest, gateway: Target, signal: AbortSignal): Promise<Route> {
  const { pac, system } = request.proxy;
  if (pac !== undefined)
    return byPac({ location: pac.location, source: pac.from }, request, { gateway, signal });
  const systemProxy = system && (await readSystemProxy(system, signal));
  return systemProxy === undefined
    ? withoutSystemProxy(request)
    : bySystem(systemProxy, request, { gateway, signal });
}

interface DiscoveryContext {
  readonly gateway: Target;
  readonly signal: AbortSignal;
}

/** As browsers do: what is detected first, then the PAC file, then the proxies that are written down. */
async function bySystem(
  systemProxy: SystemProxy,
  request: RouteRequest,
  context: DiscoveryContext,
): Promise<Route> {
  let pacError: string | undefined;
  if (systemProxy.autoDetect) {
    const found = await byPac(
      { location: autoDetected, source: `WPAD (${systemProxy.source})` },
      request,
      context,
    );
    // Most networks have none, and the setting is on by default on some systems.
    if (found.pacError === undefined) return found;
  }
  if (systemProxy.pac !== undefined) {
    const found = await byPac({ location: systemProxy.pac, source: systemProxy.source }, request, context);
    if (found.pacError === undefined) return found;
    pacError = found.pacError;
  }
  const { source, proxy } = systemProxy;
  if (proxy === undefined)
    return { ...withoutSystemProxy(request), ...(pacError === undefined ? {} : { pacError }) };
  if (isExceptedBySystem(systemProxy, context.gateway))
    return { source, why: 'its list of exceptions names the gateway', hops: ['direct'] };
  const hops = [parseProxy(proxy, `the proxy setting of ${source}`)];
  return { source, why: 'it is set there', hops, ...(pacError === undefined ? {} : { pacError }) };
}

function withoutSystemProxy({ proxy }: RouteRequest): Route {
  const hint = proxy.http?.trim() ?? '';
  if (hint === '') return { source: 'nothing', why: 'no proxy is set', hops: ['direct'] };
  const why = 'it is set, and nothing says anything about https; straight if it does not help';
  return { source: 'HTTP_PROXY', why, hops: [parseProxy(hint, 'HTTP_PROXY'), 'direct'] };
}

/** A PAC file that cannot be had or does not run sends nobody anywhere: straight on, and the trouble is kept. */
async function byPac(
  { location, source }: { readonly location: string; readonly source: string },
  request: RouteRequest,
  { gateway, signal }: DiscoveryContext,
): Promise<Route> {
  const { evaluatePac } = await import('../pac/pac.ts');
  const why = 'its PAC file says so';
  try {
    const hops: readonly Hop[] = await evaluatePac(location, { gateway, trust: trustOf(request), signal });
    return { source, why, hops };
  } catch (error) {
    return { source, why: 'its PAC file is of no use', hops: ['direct'], pacError: toFailure(error).message };
  }
}
