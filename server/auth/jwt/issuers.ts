import type { ClaimCondition, Config } from '../../config/config.ts';
import type { IssuerKeys } from './issuer-keys.ts';
import { fixedKeys } from './jwks-cache.ts';
import type { KeySource } from './jwks-cache.ts';
import type { TrustedIssuer } from './jwt-authenticator.ts';
import { ownAudience, ownMaxLifetimeMs } from '../gateway-key.ts';
import type { SigningKey } from '../gateway-key.ts';
import { ownIssuer, signInClientId, signInIssuer } from '../../config/issuer-urls.ts';

export interface IssuersOptions {
  /** The keys of the issuers of the configuration. */
  readonly issuerKeys: IssuerKeys;
  /** The keys of the gateway's own sign-in; absent: it has none. */
  readonly signInKeys?: KeySource;
}

/** All issuers that the gateway trusts: its own key, its own sign-in, and the issuers of the configuration. */
export function trustedIssuers(
  config: Config,
  key: SigningKey,
  { issuerKeys, signInKeys }: IssuersOptions,
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
  const sources = issuerKeys.sourcesFor(config.issuers);
  const others = config.issuers.map((issuer, at) => ({ ...issuer, keys: sources[at]! }));
  return [own, ...(signInKeys ? [signInAsIssuer(config, signInKeys)] : []), ...others];
}

/**
 * Issuer, audience and key of the sign-in's ID tokens are those of its access tokens: their audience is a client whose id is
 * the audience of access tokens. So two facts part them, not only `typ`: an access token names its client (RFC 9068 section
 * 2.2), and an ID token never does. Access tokens always have.
 */
const isAccessToken: ClaimCondition = { claim: 'client_id', values: [signInClientId] };

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
    claims: [isAccessToken],
    keys,
  };
}
