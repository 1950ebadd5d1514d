import { createLocalJWKSet, errors } from 'jose';
import type { CryptoKey, JSONWebKeySet } from 'jose';
import { TunnelError } from '../../../protocol/errors.ts';

/** Where an issuer's public keys come from. */
export interface KeySource {
  /** The keys that may have signed under this header; none: no such key. Throws `ISSUER_UNAVAILABLE`. */
  find(hint: { readonly alg: string; readonly kid?: string }): Promise<readonly CryptoKey[]>;
}

/** Fetches the current key set. Throws anything; the keys at hand then go on for a while. */
export type LoadKeys = () => Promise<JSONWebKeySet>;

/** How long keys are believed, in milliseconds. */
export interface JwksCachePolicy {
  /** Keys in use are loaded again in the background at this age. */
  readonly refreshMs: number;
  /** Keys of this age are not used before a try to load them again, so that a removed key is refused by then. */
  readonly maxAgeMs: number;
  /** Keys of this age are not used at all, even when they cannot be loaded. */
  readonly maxStaleMs: number;
  /** Least time between two loads for unknown keys, and after a failed load. */
  readonly cooldownMs: number;
}

export interface CachedKeysOptions {
  readonly times: JwksCachePolicy;
  /** A monotonic clock, in milliseconds. */
  readonly now?: () => number;
  /** Told of each load that failed, for the log. */
  readonly onError?: (error: unknown) => void;
}

const maxCandidates = 8;

/** Keys that never change. */
export function fixedKeys(jwks: JSONWebKeySet): KeySource {
  const select = selector(jwks);
  return { find: select };
}

interface Loaded {
  readonly select: Select;
  readonly atMs: number;
}

/**
 * Keys that are loaded at first use and again as the times say. jose's own remote set is not enough here: its cooldown
 * counts from the last success only, so that while the endpoint is down every unknown key would be another request,
 * and it stops believing known keys at the first failure after ten minutes.
 */
export function cachedKeys(
  load: LoadKeys,
  { times, now = () => performance.now(), onError: onTrouble }: CachedKeysOptions,
): KeySource {
  let loaded: Loaded | undefined;
  let loading: Promise<void> | undefined;
  let failedAtMs = -Infinity;
  let soughtAtMs = -Infinity;

  async function reload(): Promise<void> {
    try {
      loaded = { select: selector(await load()), atMs: now() };
      failedAtMs = -Infinity;
    } catch (error) {
      failedAtMs = now();
      onTrouble?.(error);
    } finally {
      loading = undefined;
    }
  }

  /** Settles when the load has ended, well or not. Right after a failure there is none. */
  function refresh(): Promise<void> {
    if (!loading && now() - failedAtMs < times.cooldownMs) return Promise.resolve();
    loading ??= reload();
    return loading;
  }

  async function freshen(): Promise<void> {
    const ageMs = loaded ? now() - loaded.atMs : Infinity;
    if (ageMs < times.refreshMs) return;
    const refreshed = refresh();
    // While the endpoint fails, nobody waits for another failure: the keys at hand are good for maxStaleMs.
    const failing = failedAtMs > -Infinity && ageMs < times.maxStaleMs;
    if (ageMs >= times.maxAgeMs && !failing) await refreshed;
  }

  function usable(): Select {
    if (loaded && now() - loaded.atMs < times.maxStaleMs) return loaded.select;
    throw new TunnelError(
      'ISSUER_UNAVAILABLE',
      'the keys of the issuer cannot be had at the moment; try again later',
    );
  }

  /** Looks for a key that is not there: it may have come since. */
  async function seek(): Promise<void> {
    if (!loading && now() - soughtAtMs < times.cooldownMs) return;
    soughtAtMs = now();
    await refresh();
  }

  return {
    async find(hint) {
      await freshen();
      const found = await usable()(hint);
      if (found.length > 0) return found;
      await seek();
      return usable()(hint);
    },
  };
}

type Select = KeySource['find'];

/** Throws when the set is not one. */
function selector(jwks: JSONWebKeySet): Select {
  const choose = createLocalJWKSet(jwks);
  return async (hint) => {
    try {
      return [await choose(hint)];
    } catch (error) {
      // A token without `kid` from an issuer with several keys: one of them is right, or none.
      return error instanceof errors.JWKSMultipleMatchingKeys ? await some(error) : [];
    }
  };
}

async function some(keys: AsyncIterable<CryptoKey>): Promise<readonly CryptoKey[]> {
  const found: CryptoKey[] = [];
  for await (const key of keys) {
    found.push(key);
    if (found.length === maxCandidates) break;
  }
  return found;
}
