import type { JSONWebKeySet } from 'jose';
import { NotRegularFileError, readRegularFile } from '../../../base/regular-file.ts';
import { fetchJson } from './fetch-json.ts';
import type { LoadKeys } from './jwks-cache.ts';
import { discoveryUrl } from '../../config/issuer-urls.ts';
import { isSecureUrl } from '../../net/secure-url.ts';

const limits = { timeoutMs: 5000, maxBytes: 1024 * 1024 };

/** Loads the key set from a file. */
export function keysFromFile(file: string): LoadKeys {
  return async () => {
    const { bytes } = await readRegularFile(file, limits.maxBytes).catch((cause: unknown) => {
      throw cause instanceof NotRegularFileError || cause instanceof RangeError
        ? new Error(`${file} ${cause.message}`, { cause })
        : cause;
    });
    return asKeySet(JSON.parse(bytes.toString()));
  };
}

/** Fetches the key set from a URL. */
export function keysFromUrl(url: URL): LoadKeys {
  return async () => asKeySet(await fetchJson(url, limits));
}

/** Fetches the key set from the URL in the issuer's own metadata (OpenID Connect Discovery 1.0 §4). */
export function keysFromDiscovery(issuer: string): LoadKeys {
  return async () => {
    const metadata = await fetchJson(discoveryUrl(issuer), limits);
    return asKeySet(await fetchJson(readJwksUrl(metadata, issuer), limits));
  };
}

function readJwksUrl(metadata: unknown, issuer: string): URL {
  const { issuer: named, jwks_uri: text } = (metadata ?? {}) as { issuer?: unknown; jwks_uri?: unknown };
  // §4.3: otherwise one issuer could speak for another.
  if (named !== issuer) throw new Error('the metadata is of another issuer');
  const url = typeof text === 'string' && URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !isSecureUrl(url)) throw new Error('the metadata names no https jwks_uri');
  return url;
}

function asKeySet(value: unknown): JSONWebKeySet {
  const keys = (value as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(keys)) throw new Error('not a JSON Web Key Set');
  return value as JSONWebKeySet;
}
