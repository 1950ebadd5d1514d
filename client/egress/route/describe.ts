import { routeFor } from './discover.ts';
import { orderByHealth } from './try-hops.ts';
import { hopName } from '../proxy/proxy-url.ts';
import { routeCache } from './route-cache.ts';
import type { PlannedRoute } from './route.ts';

/** The route that is used, for people and programs. No passwords. */
export interface RouteDescription {
  /** What determines it: `HTTPS_PROXY`, `NO_PROXY`, `POSTERN_PAC`, `config.json`, `GNOME`, `macOS`, `Windows`, `nothing` … */
  readonly source: string;
  /** The reason, as a clause. */
  readonly why: string;
  /** The hops in the order in which they are tried: `http://p:3128`, `socks5h://q:1080`, `direct`. */
  readonly hops: readonly string[];
  /** The hops that were unreachable a short while ago. */
  readonly dead: readonly string[];
  /** Whether this comes from the cache of this network. */
  readonly isRemembered: boolean;
  /** Why a PAC file is not used. */
  readonly pacError?: string;
  /** Whether certificates in this network need the authorities of the system. */
  readonly needsSystemTrust: boolean;
}

/** Describes the route without connecting. */
export async function describe(
  { request, route: planned }: PlannedRoute,
  signal: AbortSignal,
): Promise<RouteDescription> {
  const { route, isRemembered } =
    planned === undefined
      ? await routeFor(request, request.gateway, signal)
      : { route: planned, isRemembered: false };
  const cache = routeCache(request.state);
  const { source, why, hops, pacError } = route;
  return {
    source,
    why,
    hops: orderByHealth(hops, cache).map(hopName),
    dead: hops.filter((hop) => cache.isDead(hop)).map(hopName),
    isRemembered,
    ...(pacError === undefined ? {} : { pacError }),
    needsSystemTrust: cache.needsSystemTrust,
  };
}
