import type { Config, IssuerConfig } from '../../config/config.ts';
import { cachedKeys, fixedKeys } from './jwks-cache.ts';
import type { KeySource, JwksCachePolicy, LoadKeys } from './jwks-cache.ts';
import type { TrustedIssuer } from './jwt-authenticator.ts';
import { ownAudience, ownMaxLifetimeMs } from '../gateway-key.ts';
import type { SigningKey } from '../gateway-key.ts';
import { ownIssuer, signInIssuer } from '../../config/issuer-urls.ts';
import { keysFromDiscovery, keysFromFile, keysFromUrl } from './jwks-loaders.ts';

const minuteMs = 60_000;

/** A removed key is refused within 10 minutes; an endpoint may be down for a day. */
export const remoteTimes: JwksCachePolicy = {
  refreshMs: 5 * minuteMs,
  maxAgeMs: 10 * minuteMs,
  maxStaleMs: 24 * 60 * minuteMs,
  cooldownMs: 10_000,
};

const fileTimes: JwksCachePolicy = {
  ...remoteTimes,
  refreshMs: minuteMs,
  maxAgeMs: minuteMs,
  cooldownMs: 1000,
};

export interface IssuersOptions {
  /** Told each time the keys of an issuer could not be loaded. */
  readonly onError?: (issuer: string, error: unknown) => void;
  /** The keys of the gateway's own sign-in; absent: it has none. */
  readonly signInKeys?: KeySource;
}

/** Everyone whose tokens the gateway believes: the issuers of the config, its own key, and its own sign-in. */
export function trustedIssuers(
  config: Config,
  key: SigningKey,
  { onError: onTrouble, signInKeys }: IssuersOptions = {},
): readonly TrustedIssuer[] {
  const own: TrustedIssuer = {
    issuer: ownIssuer(config.publicUrl),
    audience: ownAudience,
    algorithms: ['EdDSA'],
    groupsClaim: 'groups',
    typ: 'at+jwt',
    maxLifetimeMs: ownMaxLifetimeMs,
    keys: fixedKeys(key.publicKeys),
  };
  const others = config.issuers.map((issuer) => ({
    ...issuer,
    keys: issuerKeys(issuer, (error) => onTrouble?.(issuer.issuer, error)),
  }));
  return [own, ...(signInKeys ? [signInAs(config, signInKeys)] : []), ...others];
}

/** What people get by signing in: tokens of minutes, from the authorization server in this very process. */
function signInAs({ publicUrl, signIn }: Config, keys: KeySource): TrustedIssuer {
  return {
    issuer: signInIssuer(publicUrl),
    audience: ownAudience,
    algorithms: ['ES256'],
    groupsClaim: 'groups',
    typ: 'at+jwt',
    maxLifetimeMs: signIn.accessTokenMs,
    saysSignInTime: true,
    keys,
  };
}

function issuerKeys({ issuer, keys }: IssuerConfig, onTrouble: (error: unknown) => void): KeySource {
  const times = keys.kind === 'file' ? fileTimes : remoteTimes;
  return cachedKeys(loader(issuer, keys), { times, onError: onTrouble });
}

function loader(issuer: string, keys: IssuerConfig['keys']): LoadKeys {
  if (keys.kind === 'file') return keysFromFile(keys.file);
  return keys.kind === 'url' ? keysFromUrl(keys.url) : keysFromDiscovery(issuer);
}
