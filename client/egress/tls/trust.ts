import type { SystemTrust, TrustSources } from './tls.ts';
import { routeCache } from '../route/route-cache.ts';
import type { RouteRequest } from '../route/route.ts';

/** Whom a way trusts: the authorities of Node and of its CA file at first, and then those of the system. */
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
