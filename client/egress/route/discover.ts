import type { Socket } from 'node:net';
import { onAbort } from '../../../base/deadline.ts';
import { definedOnly } from '../../../base/defined-only.ts';
import { formatTarget } from '../../../protocol/target.ts';
import type { Target } from '../../../protocol/target.ts';
import { ClientError, toFailure } from '../../errors/failure.ts';
import { writeStderr } from '../../errors/report.ts';
import { networkId } from '../../os/network-id.ts';
import { connectViaRoute, isRouteFailure } from './try-hops.ts';
import { parseProxy, hopName } from '../proxy/proxy-url.ts';
import { isExceptedBySystem } from '../system/system-proxy.ts';
import type { SystemProxy } from '../system/system-proxy.ts';
import { readSystemProxy } from '../system/settings.ts';
import { trustOf } from '../tls/trust.ts';
import { routeCache } from './route-cache.ts';
import type { Route, RouteRequest } from './route.ts';

/** Settings and PAC files change; when the cached route fails, they are read again earlier. */
const keptMs = 30 * 60_000;
/** A PAC file that cannot be fetched may become available with the VPN, in the same network. */
const keptAfterErrorMs = 60_000;

/** The location of the PAC file for automatic detection (WPAD). */
const autoDetected = 'http://wpad/wpad.dat';

/** Discoveries that are running: tunnels with the same request share one. */
const running = new Map<string, Promise<Route>>();

/** Connects by the route that a PAC file or the system determines. The caller owns the socket. Throws as `Egress.connect`. */
export async function connectDiscovered(
  request: RouteRequest,
  gateway: Target,
  signal: AbortSignal,
): Promise<Socket> {
  const { route, isRemembered } = await routeFor(request, gateway, signal);
  if (!isRemembered && route.warning !== undefined)
    writeStderr(`postern: ${route.warning}; it is not used (${route.source})\n`);
  try {
    return await connectViaRoute(route, { request, gateway, signal });
  } catch (error) {
    if (!isRemembered || !isRouteFailure(error) || signal.aborted) throw error;
    const now = await discoverOnce(request, gateway, signal);
    if (namesOf(now) === namesOf(route)) throw error;
    return connectViaRoute(now, { request, gateway, signal });
  }
}

/** The cached route from this network, or the result of a discovery now. */
export async function routeFor(
  request: RouteRequest,
  gateway: Target,
  signal: AbortSignal,
): Promise<{ readonly route: Route; readonly isRemembered: boolean }> {
  const remembered = routeCache(request.state).recall(cacheKey(request, gateway));
  if (remembered !== undefined) return { route: remembered, isRemembered: true };
  return { route: await discoverOnce(request, gateway, signal), isRemembered: false };
}

/** Starts or joins a discovery. Each caller waits by its own signal, and the discovery has time limits of its own: the first caller may give up before the others. */
function discoverOnce(request: RouteRequest, gateway: Target, signal: AbortSignal): Promise<Route> {
  const question = cacheKey(request, gateway);
  const key = `${networkId()} ${request.state} ${question}`;
  let pending = running.get(key);
  if (pending === undefined) {
    pending = discover(request, gateway, new AbortController().signal)
      .then((route) => {
        routeCache(request.state).keep(
          question,
          route,
          route.pacError === undefined ? keptMs : keptAfterErrorMs,
        );
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
    return (await byPac({ location: pac.location, source: pac.from }, request, { gateway, signal })).route;
  const systemProxy = system && (await readSystemProxy(system, signal));
  return systemProxy === undefined
    ? withoutSystemProxy(request)
    : bySystem(systemProxy, request, { gateway, signal });
}

interface DiscoveryContext {
  readonly gateway: Target;
  readonly signal: AbortSignal;
}

/** The order of browsers: automatic detection, then the PAC file, then the configured proxies. */
async function bySystem(
  systemProxy: SystemProxy,
  request: RouteRequest,
  context: DiscoveryContext,
): Promise<Route> {
  let failure: Pick<Route, 'pacError' | 'warning'> = {};
  if (systemProxy.autoDetect) {
    const found = await byPac(
      { location: autoDetected, source: `WPAD (${systemProxy.source})` },
      request,
      context,
    );
    // Most networks have none, and detection is on by default on some systems.
    if (found.isAvailable) return found.route;
  }
  if (systemProxy.pac !== undefined) {
    const found = await byPac({ location: systemProxy.pac, source: systemProxy.source }, request, context);
    if (found.isAvailable) return found.route;
    const { pacError, warning } = found.route;
    failure = definedOnly({ pacError, warning });
  }
  const { source, proxy } = systemProxy;
  if (proxy === undefined) return { ...withoutSystemProxy(request), ...failure };
  if (isExceptedBySystem(systemProxy, context.gateway))
    return { source, why: 'its exceptions include the gateway', hops: ['direct'] };
  const hops = [parseProxy(proxy, `the proxy setting of ${source}`)];
  return { source, why: 'it is set there', hops, ...failure };
}

function withoutSystemProxy({ proxy }: RouteRequest): Route {
  const hint = proxy.http?.trim() ?? '';
  if (hint === '') return { source: 'nothing', why: 'no proxy is set', hops: ['direct'] };
  const why = 'it is set, and no proxy for https is; if it fails, the connection is direct';
  return { source: 'HTTP_PROXY', why, hops: [parseProxy(hint, 'HTTP_PROXY'), 'direct'] };
}

/**
 * The route by a PAC file, and whether there is such a file that can be run. One that cannot be read or run is ignored: a
 * direct route, with the error. Only a PAC file that is there and does not work is worth a warning: a laptop has the one of
 * its company set at home too.
 */
async function byPac(
  { location, source }: { readonly location: string; readonly source: string },
  request: RouteRequest,
  { gateway, signal }: DiscoveryContext,
): Promise<{ readonly route: Route; readonly isAvailable: boolean }> {
  const { evaluatePac, readPac } = await import('../pac/pac.ts');
  const unusable = { source, why: 'its PAC file cannot be used', hops: ['direct'] } as const;
  let script: string;
  try {
    script = await readPac(location, trustOf(request), signal);
  } catch (error) {
    return { route: { ...unusable, pacError: toFailure(error).message }, isAvailable: false };
  }
  try {
    const { hops, problem } = await evaluatePac(script, gateway, signal);
    if (problem === undefined) return { route: { source, why: 'by its PAC file', hops }, isAvailable: true };
    const why = 'its PAC file gives no answer; browsers connect directly then too';
    return { route: { source, why, hops, pacError: problem, warning: problem }, isAvailable: true };
  } catch (error) {
    const { message } = toFailure(error);
    return { route: { ...unusable, pacError: message, warning: message }, isAvailable: false };
  }
}
