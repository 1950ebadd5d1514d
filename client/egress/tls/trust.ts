import type { SystemTrust, TrustSources } from './tls.ts';
import { routeCache } from '../route/route-cache.ts';
import type { RouteRequest } from '../route/route.ts';

/** The trust for a route: the authorities of Node.js and of its CA file first, then those of the system. */
export function trustOf({ caFile, state, trustsSystem = true, systemCaFile }: RouteRequest): TrustSources {
  const cache = routeCache(state);
  const added = {
    ...(caFile !== undefined && { caFile }),
    ...(state !== undefined && { lastCas: cache.lastCas }),
  };
  if (!trustsSystem) return added;
  const system: SystemTrust = {
    get isNeeded() {
      return cache.needsSystemTrust;
    },
    keepNeeded: () => cache.keepSystemTrust(),
    load: async (signal) => {
      const { systemAuthorities } = await import('./system-ca.ts');
      return systemAuthorities(systemCaFile, signal);
    },
  };
  return { ...added, system };
}
