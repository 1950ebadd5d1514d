import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { IssuerConfig } from '../../config/config.ts';
import type { Store, Table } from '../../store/store.ts';
import { JwksCache } from './jwks-cache.ts';
import type { JwksCachePolicy, KeptKeys, KeySource, LoadKeys } from './jwks-cache.ts';
import { keysFromDiscovery, keysFromFile, keysFromUrl } from './jwks-loaders.ts';

const minuteMs = 60_000;

/** A removed key is refused within 10 minutes; an endpoint can be down for a day. */
export const remoteJwksPolicy: JwksCachePolicy = {
  refreshMs: 5 * minuteMs,
  maxAgeMs: 10 * minuteMs,
  maxStaleMs: 24 * 60 * minuteMs,
  cooldownMs: 10_000,
};

const fileJwksPolicy: JwksCachePolicy = {
  ...remoteJwksPolicy,
  refreshMs: minuteMs,
  maxAgeMs: minuteMs,
  cooldownMs: 1000,
};

/** A larger key set is not stored. */
const maxStoredLength = 128 * 1024;
/** A clock that was set back tells nothing about the age of a set. */
const clockMs = minuteMs;

const storedKeys = z.object({
  issuer: z.string(),
  source: z.string(),
  jwks: z.object({ keys: z.array(z.record(z.string(), z.unknown())) }),
  /** Milliseconds since 1970. */
  fetchedAt: z.number(),
});

type StoredKeys = Readonly<z.output<typeof storedKeys>>;
type KeyedIssuer = Pick<IssuerConfig, 'issuer' | 'keys'>;

/** The keys of the issuers of the configuration. They outlive a reload, and their last good sets a restart. */
export interface IssuerKeys {
  /** The sources for the issuers of a configuration; those of an issuer whose entry is the same go on. */
  sourcesFor(issuers: readonly KeyedIssuer[]): readonly KeySource[];
}

export interface IssuerKeysOptions {
  /** Called each time the keys of an issuer could not be loaded, or one of them cannot be used. */
  readonly onError: (issuer: string, error: unknown) => void;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** The last good set of each issuer lies in the store, for as long as the issuer is in the configuration. */
export function openIssuerKeys(store: Store, { onError, now = Date.now }: IssuerKeysOptions): IssuerKeys {
  const table = store.table('issuerKeys', storedKeys);
  const caches = new Map<string, JwksCache>();
  let before: ReadonlySet<string> | undefined;

  function cacheOf(issuer: KeyedIssuer): JwksCache {
    const name = nameOf(issuer);
    const present = caches.get(name);
    if (present) {
      present.renew(issuer.keys.kind === 'file');
      return present;
    }
    const isFile = issuer.keys.kind === 'file';
    const made = new JwksCache(keyLoader(issuer), {
      policy: isFile ? fileJwksPolicy : remoteJwksPolicy,
      onError: (error) => onError(issuer.issuer, error),
      ...(!isFile && { kept: keptKeys(table, issuer, now) }),
    });
    caches.set(name, made);
    return made;
  }

  return {
    sourcesFor(issuers) {
      const sources = issuers.map(cacheOf);
      const wanted = new Set(issuers.map(nameOf));
      // A configuration that is prepared need not take effect: the one before it keeps its sources too.
      for (const name of caches.keys()) if (!wanted.has(name) && !before?.has(name)) caches.delete(name);
      before = wanted;
      void forgetOthers(table, caches).catch(() => {});
      return sources;
    },
  };
}

async function forgetOthers(table: Table<StoredKeys>, caches: ReadonlyMap<string, unknown>): Promise<void> {
  const wanted = new Set([...caches.keys()].map(keyOf));
  const damaged: string[] = [];
  const rows = await table.list((_error, key) => void damaged.push(key));
  for (const key of [...damaged, ...rows.map(([each]) => each)])
    if (!wanted.has(key)) await table.delete(key);
}

function keptKeys(table: Table<StoredKeys>, issuer: KeyedIssuer, now: () => number): KeptKeys {
  const key = keyOf(nameOf(issuer));
  return {
    async read() {
      const found = await table.get(key);
      if (!found) return undefined;
      const ageMs = now() - found.fetchedAt;
      return ageMs < -clockMs ? undefined : { jwks: found.jwks, ageMs: Math.max(0, ageMs) };
    },
    async write(jwks) {
      if (JSON.stringify(jwks).length > maxStoredLength) return table.delete(key);
      const fetchedAt = now();
      const stored = {
        issuer: issuer.issuer,
        source: sourceOf(issuer),
        jwks,
        fetchedAt,
      } as unknown as StoredKeys;
      await table.put(key, stored, { expiresAt: fetchedAt + remoteJwksPolicy.maxStaleMs });
    },
  };
}

function keyLoader({ issuer, keys }: KeyedIssuer): LoadKeys {
  if (keys.kind === 'file') return keysFromFile(keys.file);
  return keys.kind === 'url' ? keysFromUrl(keys.url) : keysFromDiscovery(issuer);
}

function sourceOf({ keys }: KeyedIssuer): string {
  if (keys.kind === 'file') return keys.file;
  return keys.kind === 'url' ? keys.url.href : 'discovery';
}

function nameOf(issuer: KeyedIssuer): string {
  return JSON.stringify([issuer.issuer, issuer.keys.kind, sourceOf(issuer)]);
}

function keyOf(name: string): string {
  return createHash('sha256').update(name).digest('base64url');
}
