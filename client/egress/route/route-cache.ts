import { parseProxy, hopName } from '../proxy/proxy-url.ts';
import type { Hop } from '../proxy/proxy-url.ts';
import type { LastCaCache } from '../tls/last-ca.ts';
import { NetworkFile, keys } from './network-file.ts';
import type { StoredRoute } from './network-file.ts';
import type { Route } from './route.ts';

/** What is known about the network this machine is in. Losing it costs time and nothing else. */
export interface RouteCache {
  /** The route that was found for this key the last time. */
  recall(key: string): Route | undefined;
  /** A route that holds a password is not written down. */
  keep(key: string, route: Route, forMs: number): void;
  isDead(hop: Hop): boolean;
  keepDead(hop: Hop): void;
  keepAlive(hop: Hop): void;
  /** Whether certificates in this network are issued by an authority that only the system trusts. */
  readonly needsSystemTrust: boolean;
  keepSystemTrust(): void;
  readonly lastCas: LastCaCache;
}

/** How long a proxy that was unreachable is tried last. */
const deadMs = 5 * 60_000;
const trustMs = 30 * 24 * 3_600_000;
const maxEntries = 32;

/** The cache in `ways.json` under the state directory. A file that cannot be read or written is treated as absent. */
export function routeCache(state: string | undefined, now: () => number = Date.now): RouteCache {
  const file = new NetworkFile(state);
  // A wrong clock must not make an entry last for years.
  const isValid = (until: unknown, maxMs: number): boolean =>
    typeof until === 'number' && until > now() && until <= now() + maxMs;
  return {
    recall(key) {
      const stored = file.current()[keys.routes]?.[key];
      return stored !== undefined && isValid(stored.until, trustMs) ? restoreRoute(stored) : undefined;
    },
    keep(key, route, forMs) {
      if (route.hops.some((hop) => hop !== 'direct' && hop.password !== undefined)) return;
      const { source, why, hops, pacError } = route;
      const stored: StoredRoute = {
        source,
        why,
        steps: hops.map(hopName),
        ...(pacError === undefined ? {} : { [keys.pacError]: pacError }),
        until: now() + forMs,
      };
      file.change((network) => {
        const { [key]: _before, ...others } = network[keys.routes] ?? {};
        const kept = Object.entries(others).slice(1 - maxEntries);
        return { ...network, [keys.routes]: Object.fromEntries([...kept, [key, stored]]) };
      });
    },
    isDead: (hop) => isValid(file.current().dead?.[hopName(hop)], deadMs),
    keepDead(hop) {
      if (hop === 'direct') return;
      file.change((network) => {
        const still = Object.entries(network.dead ?? {}).filter(([, until]) => isValid(until, deadMs));
        const dead = { ...Object.fromEntries(still.slice(-maxEntries)), [hopName(hop)]: now() + deadMs };
        return { ...network, dead };
      });
    },
    keepAlive(hop) {
      if (file.current().dead?.[hopName(hop)] === undefined) return;
      file.change((network) => {
        const { [hopName(hop)]: _dead, ...dead } = network.dead ?? {};
        return { ...network, dead };
      });
    },
    get needsSystemTrust() {
      return isValid(file.current().systemTrustUntil, trustMs);
    },
    keepSystemTrust() {
      file.change((network) => ({ ...network, systemTrustUntil: now() + trustMs }));
    },
    lastCas: lastCaCache(file, { isValid, now }),
  };
}

interface Validity {
  readonly isValid: (until: unknown, maxMs: number) => boolean;
  readonly now: () => number;
}

function lastCaCache(file: NetworkFile, { isValid, now }: Validity): LastCaCache {
  return {
    recall(host) {
      const stored = file.current()[keys.lastCas]?.[host];
      return isValid(stored?.until, trustMs) ? stored!.fingerprint : undefined;
    },
    keep(host, fingerprint) {
      file.change((network) => {
        const { [host]: _before, ...others } = network[keys.lastCas] ?? {};
        const kept = Object.entries(others).slice(1 - maxEntries);
        const lastCas = Object.fromEntries([...kept, [host, { fingerprint, until: now() + trustMs }]]);
        return { ...network, [keys.lastCas]: lastCas };
      });
    },
  };
}

/** Anything can be in the file when it was edited by hand. */
function restoreRoute(stored: StoredRoute): Route | undefined {
  try {
    const { source, why, steps, [keys.pacError]: pacError } = stored;
    if (!Array.isArray(steps) || steps.length === 0) return undefined;
    const texts: readonly unknown[] = [source, why, pacError ?? '', ...steps];
    if (!texts.every((text) => typeof text === 'string')) return undefined;
    return {
      source,
      why,
      hops: steps.map((hop) => (hop === 'direct' ? hop : parseProxy(hop, 'ways.json'))),
      ...(pacError === undefined ? {} : { pacError }),
    };
  } catch {
    return undefined;
  }
}
