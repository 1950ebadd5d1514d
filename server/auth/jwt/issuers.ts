import type { Config, IssuerConfig } from '../../config/config.ts';
import { JwksCache, fixedKeys } from './jwks-cache.ts';
import type { KeySource, JwksCachePolicy, LoadKeys } from './jwks-cache.ts';
import type { TrustedIssuer } from './jwt-authenticator.ts';
import { ownAudience, ownMaxLifetimeMs } from '../gateway-key.ts';
import type { SigningKey } from '../gateway-key.ts';
import { ownIssuer, signInIssuer } from '../../config/issuer-urls.ts';
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

export interface IssuersOptions {
  /** Called each time the keys of an issuer could not be loaded. */
  readonly onError?: (issuer: string, error: unknown) => void;
  /** The keys of the gateway's own sign-in; absent: it has none. */
  readonly signInKeys?: KeySource;
}

/** All issuers that the gateway trusts: its own key, its own sign-in, and the issuers of the configuration. */
export function trustedIssuers(
  config: Config,
  key: SigningKey,
  { onError, signInKeys }: IssuersOptions = {},
): readonly TrustedIssuer[] {
  const own: TrustedIssuer = {
    issuer: ownIssuer(config.publicUrl),
    audience: ownAudience,
    algorithms: ['EdDSA'],
    groupsClaim: 'groups',
    typ: 'at+jwt',
    maxLifetimeMs: ownMaxLifetimeMs,
    isOwn: true,
    keys: fixedKeys(key.publicKeys),
  };
  const others = config.issuers.map((issuer) => ({
    ...issuer,
    keys: issuerKeys(issuer, (error) => onError?.(issuer.issuer, error)),
  }));
  return [own, ...(signInKeys ? [signInAsIssuer(config, signInKeys)] : []), ...others];
}

/** The issuer of the tokens that people get by signing in: they live for minutes, and the authorization server is part of this process. */
function signInAsIssuer({ publicUrl, signIn }: Config, keys: KeySource): TrustedIssuer {
  return {
    issuer: signInIssuer(publicUrl),
    audience: ownAudience,
    algorithms: ['ES256'],
    groupsClaim: 'groups',
    typ: 'at+jwt',
    maxLifetimeMs: signIn.accessTokenMs,
    hasAuthTime: true,
    isOwn: true,
    keys,
  };
}

function issuerKeys({ issuer, keys }: IssuerConfig, onError: (error: unknown) => void): KeySource {
  const policy = keys.kind === 'file' ? fileJwksPolicy : remoteJwksPolicy;
  return new JwksCache(keyLoader(issuer, keys), { policy, onError });
}

function keyLoader(issuer: string, keys: IssuerConfig['keys']): LoadKeys {
  if (keys.kind === 'file') return keysFromFile(keys.file);
  return keys.kind === 'url' ? keysFromUrl(keys.url) : keysFromDiscovery(issuer);
}
