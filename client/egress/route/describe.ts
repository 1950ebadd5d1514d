import { routeFor } from './discover.ts';
import { orderByHealth } from './try-hops.ts';
import { stepName } from '../proxy/proxy-url.ts';
import { routeCache } from './route-cache.ts';
import type { PlannedRoute } from './route.ts';

/** Which way out is taken, for people and programs. No passwords. */
export interface RouteDescription {
  /** Who says so: `HTTPS_PROXY`, `NO_PROXY`, `POSTERN_PAC`, `config.json`, `GNOME`, `macOS`, `Windows`, `nothing` … */
  readonly source: string;
  /** Why, as a clause. */
  readonly why: string;
  /** What is tried, in this order: `http://p:3128`, `socks5h://q:1080`, `direct`. */
  readonly steps: readonly string[];
  /** Those of them that were not there a short while ago. */
  readonly dead: readonly string[];
  /** Whether this was found out earlier in this network. */
  readonly isRemembered: boolean;
  /** Why a PAC file is not followed. */
  readonly trouble?: string;
  /** Whether certificates in this network needed the authorities of the system. */
  readonly needsSystemTrust: boolean;
}

/** Describes the way without going it. */
export async function describe(
  { request, route }: PlannedRoute,
  signal: AbortSignal,
): Promise<RouteDescription> {
  const { verdict, isRemembered } =
    route === undefined
      ? await routeFor(request, request.gateway, signal)
      : { verdict: route, isRemembered: false };
  const memory = routeCache(request.state);
  const { source, why, steps, trouble } = verdict;
  return {
    source,
    why,
    steps: orderByHealth(steps, memory).map(stepName),
    dead: steps.filter((step) => memory.isDead(step)).map(stepName),
    isRemembered,
    ...(trouble === undefined ? {} : { trouble }),
    needsSystemTrust: memory.needsSystemTrust,
  };
}
