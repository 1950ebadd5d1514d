import { join } from 'node:path';
import { readSmall, writePrivate } from '../../os/files.ts';
import { networkId } from '../../os/network-id.ts';
import { parseProxy, hopName } from '../proxy/proxy-url.ts';
import type { Hop } from '../proxy/proxy-url.ts';
import type { LastCaCache } from '../tls/last-ca.ts';
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
const maxNetworks = 32;
const maxEntries = 32;
const maxBytes = 256 * 1024;

/** The keys of the file, which processes of other versions read and write too. */
const keys = { routes: 'verdicts', lastCas: 'vouchers', pacError: 'trouble' } as const;

interface StoredRoute {
  readonly source: string;
  readonly why: string;
  readonly steps: readonly string[];
  readonly [keys.pacError]?: string;
  readonly until: number;
}

interface Network {
  readonly [keys.routes]?: Readonly<Record<string, StoredRoute>>;
  /** Time of expiry by the name of the proxy, in milliseconds since the epoch. */
  readonly dead?: Readonly<Record<string, number>>;
  readonly systemTrustUntil?: number;
  /** By host. */
  readonly [keys.lastCas]?: Readonly<Record<string, StoredCa>>;
}

interface StoredCa {
  readonly fingerprint: string;
  readonly until: number;
}

type Networks = Readonly<Record<string, Network>>;

/** The cache in `ways.json` under the state directory. A file that cannot be read or written is treated as absent. */
export function routeCache(state: string | undefined, now: () => number = Date.now): RouteCache {
  const path = state === undefined ? undefined : join(state, 'ways.json');
  /** Without a file there is nothing to recall, and the network need not be identified. */
  const currentNetwork = (): Network => {
    const networks = path === undefined ? undefined : load(path);
    return networks?.[networkId()] ?? {};
  };
  const change = (how: (network: Network) => Network): void => {
    if (path === undefined) return;
    const id = networkId();
    const { [id]: before = {}, ...others } = load(path) ?? {};
    const kept = Object.entries(others).slice(1 - maxNetworks);
    const networks = Object.fromEntries([...kept, [id, how(before)]]);
    try {
      writePrivate(path, `${JSON.stringify({ version: 1, networks })}\n`);
    } catch {
      // A home directory that cannot be written: the next process finds it out again.
    }
  };
  // A wrong clock must not make an entry last for years.
  const isValid = (until: unknown, maxMs: number): boolean =>
    typeof until === 'number' && until > now() && until <= now() + maxMs;
  return {
    recall(key) {
      const stored = currentNetwork()[keys.routes]?.[key];
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
      change((network) => {
        const { [key]: _before, ...others } = network[keys.routes] ?? {};
        const kept = Object.entries(others).slice(1 - maxEntries);
        return { ...network, [keys.routes]: Object.fromEntries([...kept, [key, stored]]) };
      });
    },
    isDead: (hop) => isValid(currentNetwork().dead?.[hopName(hop)], deadMs),
    keepDead(hop) {
      if (hop === 'direct') return;
      change((network) => {
        const still = Object.entries(network.dead ?? {}).filter(([, until]) => isValid(until, deadMs));
        const dead = { ...Object.fromEntries(still.slice(-maxEntries)), [hopName(hop)]: now() + deadMs };
        return { ...network, dead };
      });
    },
    keepAlive(hop) {
      if (currentNetwork().dead?.[hopName(hop)] === undefined) return;
      change((network) => {
        const { [hopName(hop)]: _dead, ...dead } = network.dead ?? {};
        return { ...network, dead };
      });
    },
    get needsSystemTrust() {
      return isValid(currentNetwork().systemTrustUntil, trustMs);
    },
    keepSystemTrust() {
      change((network) => ({ ...network, systemTrustUntil: now() + trustMs }));
    },
    lastCas: {
      recall(host) {
        const stored = currentNetwork()[keys.lastCas]?.[host];
        return isValid(stored?.until, trustMs) ? stored!.fingerprint : undefined;
      },
      keep(host, fingerprint) {
        change((network) => {
          const { [host]: _before, ...others } = network[keys.lastCas] ?? {};
          const kept = Object.entries(others).slice(1 - maxEntries);
          const lastCas = Object.fromEntries([...kept, [host, { fingerprint, until: now() + trustMs }]]);
          return { ...network, [keys.lastCas]: lastCas };
        });
      },
    },
  };
}

function load(path: string): Networks | undefined {
  try {
    const value: unknown = JSON.parse(readSmall(path, maxBytes).bytes.toString());
    const { version, networks } = (value ?? {}) as { version?: unknown; networks?: unknown };
    if (version !== 1 || typeof networks !== 'object' || networks === null) return undefined;
    const all = Object.entries(networks).filter(([, each]) => typeof each === 'object' && each !== null);
    return Object.fromEntries(all);
  } catch {
    return undefined;
  }
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
