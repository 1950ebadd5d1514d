import { isAddress } from '../../../protocol/target.ts';
import type { Target } from '../../../protocol/target.ts';
import type { SystemHints } from '../egress.ts';
import { isExcepted } from '../proxy/no-proxy.ts';
import { parseProxy } from '../proxy/proxy-url.ts';
import type { PlannedRoute, Route, RouteRequest } from './route.ts';

/** Computes the route of a request, once for everything that connects by it. Throws `CONFIG_INVALID`. */
export function planRoute(request: RouteRequest): PlannedRoute {
  const route = routeFromEnvironment(request);
  return route === undefined ? { request } : { request, route };
}

/** What can be said without asking anybody, or undefined where somebody has to be asked. Throws `CONFIG_INVALID`. */
export function routeFromEnvironment({ gateway, tls, proxy }: RouteRequest): Route | undefined {
  if (!tls) return straight('no TLS', 'a gateway without TLS is on this machine');
  if (isExcepted(proxy.except ?? '', gateway)) return straight('NO_PROXY', 'it names the gateway');
  if (proxy.pac?.from === 'POSTERN_PAC') return undefined;
  for (const [source, text] of [
    ['HTTPS_PROXY', proxy.https],
    ['ALL_PROXY', proxy.all],
  ] as const) {
    if (text === undefined) continue;
    if (text.trim() === '') return straight(source, 'it is set to nothing');
    return { source, why: 'it is set', steps: [parseProxy(text.trim(), source)] };
  }
  if (proxy.pac !== undefined) return undefined;
  if (proxy.system !== undefined && !isThisMachine(gateway) && hasSettings(proxy.system)) return undefined;
  const hint = proxy.http?.trim() ?? '';
  if (hint === '') return straight('nothing', 'no proxy is set');
  const why = 'it is set, and nothing says anything about https; straight if it does not help';
  return { source: 'HTTP_PROXY', why, steps: [parseProxy(hint, 'HTTP_PROXY'), 'direct'] };
}

/** Whether this system keeps proxy settings where we know to look; on Linux, those of GNOME and its relatives. */
function hasSettings({ platform, desktop = '' }: SystemHints): boolean {
  if (platform === 'darwin' || platform === 'win32') return true;
  return platform === 'linux' && /gnome|unity|cinnamon|mate|budgie|pantheon|pop/i.test(desktop);
}

function isThisMachine({ host }: Target): boolean {
  return host === 'localhost' || host.endsWith('.localhost') || host === '::1' || isLoopback4(host);
}

function isLoopback4(host: string): boolean {
  return isAddress(host) && host.startsWith('127.');
}

function straight(source: string, why: string): Route {
  return { source, why, steps: ['direct'] };
}
