import { createLocalJWKSet, errors } from 'jose';
import type { CryptoKey, JSONWebKeySet } from 'jose';
import { TunnelError } from '../../../protocol/errors.ts';
import { withoutWeakKeys } from './weak-keys.ts';

/** A source of an issuer's public keys. */
export interface KeySource {
  /** The keys that a token with this header can be signed with; none: no such key. Rejects with `ISSUER_UNAVAILABLE`. */
  find(hint: { readonly alg: string; readonly kid?: string }): Promise<readonly CryptoKey[]>;
}

/** Loads the current key set. Rejects with any error; the cached keys then stay in use for a while. */
export type LoadKeys = () => Promise<JSONWebKeySet>;

/** How long keys are trusted, in milliseconds. */
export interface JwksCachePolicy {
  /** From this age on, keys in use are loaded again in the background. */
  readonly refreshMs: number;
  /** From this age on, keys are not used before an attempt to load them again, so that a removed key is refused by then. */
  readonly maxAgeMs: number;
  /** From this age on, keys are not used at all, even when they cannot be loaded. */
  readonly maxStaleMs: number;
  /** The least time between two loads for unknown keys, and after a failed load. */
  readonly cooldownMs: number;
}

/** The last good set, as it outlives the process. */
export interface KeptKeys {
  read(): Promise<{ readonly jwks: JSONWebKeySet; readonly ageMs: number } | undefined>;
  write(jwks: JSONWebKeySet): Promise<void>;
}

export interface JwksCacheOptions {
  readonly policy: JwksCachePolicy;
  /** A monotonic clock, in milliseconds. */
  readonly now?: () => number;
  /** Called with the error of each load that failed, and for each key that cannot be used, for the log. */
  readonly onError?: (error: unknown) => void;
  /** Read before the first load; a set that is young enough does without it, or replaces one that fails. */
  readonly kept?: KeptKeys;
}

const maxCandidates = 8;

/** Keys that never change. */
export function fixedKeys(jwks: JSONWebKeySet): KeySource {
  return { find: keySelector(jwks) };
}

interface LoadedKeys {
  readonly select: SelectKeys;
  readonly atMs: number;
}

/**
 * Keys that are loaded at first use, and again as the policy says. jose's own remote set is not enough here: its cooldown
 * counts from the last success only, so that while the endpoint is down every unknown key would be another request,
 * and it stops trusting known keys at the first failure after ten minutes.
 */
export class JwksCache implements KeySource {
  readonly #load: LoadKeys;
  readonly #policy: JwksCachePolicy;
  readonly #now: () => number;
  readonly #onError: ((error: unknown) => void) | undefined;
  readonly #kept: KeptKeys | undefined;
  #reading: Promise<void> | undefined;
  #mustLoad = false;
  #loaded: LoadedKeys | undefined;
  #loading: Promise<void> | undefined;
  #failedAtMs = -Infinity;
  #searchedAtMs = -Infinity;

  constructor(load: LoadKeys, { policy, now = () => performance.now(), onError, kept }: JwksCacheOptions) {
    this.#load = load;
    this.#policy = policy;
    this.#now = now;
    this.#onError = onError;
    this.#kept = kept;
  }

  /** Loads the keys again: in the background, or with `isAwaited` before they are next used. Those at hand stay if that fails. */
  renew(isAwaited: boolean): void {
    this.#mustLoad = isAwaited;
    if (!isAwaited && this.#loaded) void this.#refresh();
  }

  async find(hint: Parameters<SelectKeys>[0]): ReturnType<SelectKeys> {
    await this.#freshen();
    const found = await this.#usable()(hint);
    if (found.length > 0) return found;
    await this.#loadForUnknownKey();
    return this.#usable()(hint);
  }

  async #freshen(): Promise<void> {
    const { refreshMs, maxAgeMs, maxStaleMs } = this.#policy;
    if (this.#mustLoad) {
      this.#mustLoad = false;
      await this.#refresh();
    }
    if (!this.#loaded && this.#kept) await (this.#reading ??= this.#readKept(this.#kept));
    const ageMs = this.#loaded ? this.#now() - this.#loaded.atMs : Infinity;
    if (ageMs < refreshMs) return;
    const refreshed = this.#refresh();
    // While the endpoint fails, no caller waits for another failure: the cached keys are good for maxStaleMs.
    const isFailing = this.#failedAtMs > -Infinity && ageMs < maxStaleMs;
    if (ageMs >= maxAgeMs && !isFailing) await refreshed;
  }

  #usable(): SelectKeys {
    const loaded = this.#loaded;
    if (loaded && this.#now() - loaded.atMs < this.#policy.maxStaleMs) return loaded.select;
    throw new TunnelError(
      'ISSUER_UNAVAILABLE',
      "the issuer's keys are temporarily unavailable; try again later",
    );
  }

  /** The issuer can have added the key since the last load. */
  async #loadForUnknownKey(): Promise<void> {
    if (!this.#loading && this.#now() - this.#searchedAtMs < this.#policy.cooldownMs) return;
    this.#searchedAtMs = this.#now();
    await this.#refresh();
  }

  /** Resolves when the load has ended, failed or not. Within the cooldown after a failure there is no load. */
  #refresh(): Promise<void> {
    if (!this.#loading && this.#now() - this.#failedAtMs < this.#policy.cooldownMs) return Promise.resolve();
    this.#loading ??= this.#reload();
    return this.#loading;
  }

  async #readKept(kept: KeptKeys): Promise<void> {
    try {
      const found = await kept.read();
      if (found && !this.#loaded)
        this.#loaded = { select: keySelector(found.jwks, this.#onError), atMs: this.#now() - found.ageMs };
    } catch (error) {
      // Only a spare: the keys are loaded now.
      this.#onError?.(error);
    }
  }

  async #reload(): Promise<void> {
    try {
      const jwks = await this.#load();
      this.#loaded = { select: keySelector(jwks, this.#onError), atMs: this.#now() };
      this.#failedAtMs = -Infinity;
      // A store that cannot be written says so by itself.
      this.#kept?.write(jwks).catch(() => {});
    } catch (error) {
      this.#failedAtMs = this.#now();
      this.#onError?.(error);
    } finally {
      this.#loading = undefined;
    }
  }
}

type SelectKeys = KeySource['find'];

/** Throws when `jwks` is not a key set. Weak keys are left out, and reported. */
function keySelector(jwks: JSONWebKeySet, onError?: (error: unknown) => void): SelectKeys {
  const select = createLocalJWKSet(withoutWeakKeys(jwks, onError));
  return async (hint) => {
    try {
      return [await select(hint)];
    } catch (error) {
      // A token without `kid` from an issuer with several keys: one of them is right, or none.
      return error instanceof errors.JWKSMultipleMatchingKeys ? await firstCandidates(error) : [];
    }
  };
}

async function firstCandidates(keys: AsyncIterable<CryptoKey>): Promise<readonly CryptoKey[]> {
  const found: CryptoKey[] = [];
  for await (const key of keys) {
    found.push(key);
    if (found.length === maxCandidates) break;
  }
  return found;
}
