import { routeFor } from './discover.ts';
import { orderByHealth } from './try-hops.ts';
import { hopName } from '../proxy/proxy-url.ts';
import { routeCache } from './route-cache.ts';
import type { PlannedRoute } from './route.ts';

/** Which way out is taken, for people and programs. No passwords. */
export interface RouteDescription {
  /** Who says so: `HTTPS_PROXY`, `NO_PROXY`, `POSTERN_PAC`, `config.json`, `GNOME`, `macOS`, `Windows`, `nothing` … */
  readonly source: string;
  /** Why, as a clause. */
  readonly why: string;
  /** What is tried, in this order: `http://p:3128`, `socks5h://q:1080`, `direct`. */
  readonly hops: readonly string[];
  /** Those of them that were not there a short while ago. */
  readonly dead: readonly string[];
  /** Whether this was found out earlier in this network. */
  readonly isRemembered: boolean;
  /** Why a PAC file is not followed. */
  readonly pacError?: string;
  /** Whether certificates in this network needed the authorities of the system. */
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
