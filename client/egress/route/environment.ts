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

/** The route as the environment determines it, or undefined where the system or a PAC file has to be queried. Throws `CONFIG_INVALID`. */
export function routeFromEnvironment({ gateway, tls, proxy }: RouteRequest): Route | undefined {
  if (!tls) return straight('no TLS', 'a gateway without TLS is on this machine');
  if (isExcepted(proxy.except ?? '', gateway)) return straight('NO_PROXY', 'it lists the gateway');
  if (proxy.pac?.from === 'POSTERN_PAC') return undefined;
  for (const [source, text] of [
    ['HTTPS_PROXY', proxy.https],
    ['ALL_PROXY', proxy.all],
  ] as const) {
    if (text === undefined) continue;
    if (text.trim() === '') return straight(source, 'it is set to an empty value');
    return { source, why: 'it is set', hops: [parseProxy(text.trim(), source)] };
  }
  if (proxy.pac !== undefined) return undefined;
  if (proxy.system !== undefined && !isThisMachine(gateway) && hasSettings(proxy.system)) return undefined;
  const hint = proxy.http?.trim() ?? '';
  if (hint === '') return straight('nothing', 'no proxy is set');
  const why = 'it is set, and no proxy for https is; if it fails, the connection is direct';
  return { source: 'HTTP_PROXY', why, hops: [parseProxy(hint, 'HTTP_PROXY'), 'direct'] };
}

/** Whether the proxy settings of this system can be read; on Linux, those of GNOME and related desktops. */
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
  return { source, why, hops: ['direct'] };
}
