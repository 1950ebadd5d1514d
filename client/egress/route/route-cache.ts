import { join } from 'node:path';
import { readSmall, writePrivate } from '../../os/files.ts';
import { networkId } from '../../os/network-id.ts';
import { parseProxy, hopName } from '../proxy/proxy-url.ts';
import type { Hop } from '../proxy/proxy-url.ts';
import type { LastCaCache } from '../tls/last-ca.ts';
import type { Route } from './route.ts';

/** What was found out about the network this machine is in. Losing it costs time and nothing else. */
export interface RouteCache {
  /** What was said the last time to this question. */
  recall(question: string): Route | undefined;
  /** A route that holds a password is not written down. */
  keep(question: string, route: Route, forMs: number): void;
  isDead(step: Hop): boolean;
  keepDead(step: Hop): void;
  keepAlive(step: Hop): void;
  /** Whether the certificates in this network are those of an authority that only the system knows. */
  readonly needsSystemTrust: boolean;
  keepSystemTrust(): void;
  readonly lastCas: LastCaCache;
}

/** A proxy that was not there is tried last for so long. */
const deadMs = 5 * 60_000;
const trustMs = 30 * 24 * 3_600_000;
const maxNetworks = 32;
const maxEntries = 32;
const maxBytes = 256 * 1024;

interface StoredRoute {
  readonly source: string;
  readonly why: string;
  readonly steps: readonly string[];
  readonly trouble?: string;
  readonly until: number;
}

interface Network {
  readonly verdicts?: Readonly<Record<string, StoredRoute>>;
  /** Until when, by the name of the proxy. */
  readonly dead?: Readonly<Record<string, number>>;
  readonly systemTrustUntil?: number;
  /** By host. */
  readonly vouchers?: Readonly<Record<string, StoredCa>>;
}

interface StoredCa {
  readonly fingerprint: string;
  readonly until: number;
}

type Networks = Readonly<Record<string, Network>>;

/** The memory in `ways.json` under the state directory. A file that cannot be read or written is as good as none. */
export function routeCache(state: string | undefined, now: () => number = Date.now): RouteCache {
  const path = state === undefined ? undefined : join(state, 'ways.json');
  /** Without a file, that is without anything to recall, the network needs no name. */
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
      // A home that cannot be written: it is found out again the next time.
    }
  };
  // A clock that was wrong must not make it last for years.
  const isValid = (until: unknown, maxMs: number): boolean =>
    typeof until === 'number' && until > now() && until <= now() + maxMs;
  return {
    recall(question) {
      const stored = currentNetwork().verdicts?.[question];
      return stored !== undefined && isValid(stored.until, trustMs) ? restoreRoute(stored) : undefined;
    },
    keep(question, route, forMs) {
      if (route.hops.some((step) => step !== 'direct' && step.password !== undefined)) return;
      const { source, why, hops, pacError } = route;
      const stored: StoredRoute = {
        source,
        why,
        steps: hops.map(hopName),
        ...(pacError === undefined ? {} : { trouble: pacError }),
        until: now() + forMs,
      };
      change((network) => {
        const { [question]: _before, ...others } = network.verdicts ?? {};
        const kept = Object.entries(others).slice(1 - maxEntries);
        return { ...network, verdicts: Object.fromEntries([...kept, [question, stored]]) };
      });
    },
    isDead: (step) => isValid(currentNetwork().dead?.[hopName(step)], deadMs),
    keepDead(step) {
      if (step === 'direct') return;
      change((network) => {
        const still = Object.entries(network.dead ?? {}).filter(([, until]) => isValid(until, deadMs));
        const dead = { ...Object.fromEntries(still.slice(-maxEntries)), [hopName(step)]: now() + deadMs };
        return { ...network, dead };
      });
    },
    keepAlive(step) {
      if (currentNetwork().dead?.[hopName(step)] === undefined) return;
      change((network) => {
        const { [hopName(step)]: _dead, ...dead } = network.dead ?? {};
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
        const stored = currentNetwork().vouchers?.[host];
        return isValid(stored?.until, trustMs) ? stored!.fingerprint : undefined;
      },
      keep(host, fingerprint) {
        change((network) => {
          const { [host]: _before, ...others } = network.vouchers ?? {};
          const kept = Object.entries(others).slice(1 - maxEntries);
          const vouchers = Object.fromEntries([...kept, [host, { fingerprint, until: now() + trustMs }]]);
          return { ...network, vouchers };
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

/** What somebody has written into the file by hand may be anything. */
function restoreRoute(stored: StoredRoute): Route | undefined {
  try {
    const { source, why, steps, trouble } = stored;
    if (!Array.isArray(steps) || steps.length === 0) return undefined;
    const texts: readonly unknown[] = [source, why, trouble ?? '', ...steps];
    if (!texts.every((text) => typeof text === 'string')) return undefined;
    return {
      source,
      why,
      hops: steps.map((step) => (step === 'direct' ? step : parseProxy(step, 'ways.json'))),
      ...(trouble === undefined ? {} : { pacError: trouble }),
    };
  } catch {
    return undefined;
  }
}
