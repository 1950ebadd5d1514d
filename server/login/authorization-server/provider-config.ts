import type { AdapterFactory, Configuration, KoaContextWithOIDC } from 'oidc-provider';
import type { Store } from '../../store/store.ts';
import { browserCookies } from '../pages/cookies.ts';
import type { DeviceCodes } from './device-codes.ts';
import { grantScope } from './grants.ts';
import type { GrantParts, SignInGrants } from './grants.ts';
import { clients } from './clients.ts';
import type { OidcProvider } from './import-oidc-provider.ts';
import type { Revalidator } from '../upstream/revalidation.ts';
import type { SigningKeys } from './signing-keys.ts';
import type { RateLimit } from './rate-limit.ts';

export interface AuthorizationServerParts extends GrantParts {
  readonly publicUrl: URL;
  readonly store: Store;
  readonly keys: SigningKeys;
  readonly revalidator: Pick<Revalidator, 'isStillAllowed'>;
  readonly deviceFlow: boolean;
  /** `aud` of the access tokens. */
  readonly audience: string;
  readonly onError: (error: unknown) => void;
  /** Limits the requests that cost a write to the disk. */
  readonly rate: Pick<RateLimit, 'admit'>;
}

/** The parts of the gateway that oidc-provider calls while it works. */
export interface ProviderHooks {
  readonly grants: SignInGrants;
  readonly codes: DeviceCodes;
  readonly adapter: AdapterFactory;
  readonly module: OidcProvider;
  readonly renderError: (context: KoaContextWithOIDC, out: { readonly error: string }) => void;
}

type Features = NonNullable<Configuration['features']>;

/** The subset of OAuth and OpenID Connect that the gateway speaks. */
export function providerConfiguration(parts: AuthorizationServerParts, hooks: ProviderHooks): Configuration {
  const { publicUrl, keys, deviceFlow } = parts;
  const { grants, adapter, module, renderError } = hooks;
  return {
    adapter,
    clients: clients(publicUrl, deviceFlow),
    jwks: { keys: [...keys.current] },
    cookies: { ...browserCookies(publicUrl), keys: [...keys.secrets] },
    routes: { authorization: '/auth', code_verification: '/device', token: '/token', jwks: '/jwks' },
    ...protocol,
    findAccount: accountFinder(parts),
    loadExistingGrant: (context) => grants.load(context),
    extraTokenClaims: (_context, token) => grants.claims(token as never),
    interactions: {
      policy: grants.policy(module.interactionPolicy),
      url: (_context, interaction) => `${publicUrl.pathname}sign-in/${interaction.uid}`,
    },
    ttl: lifetimes(parts, grants),
    renderError,
    features: {
      devInteractions: { enabled: false },
      dPoP: { enabled: true },
      userinfo: { enabled: false },
      rpInitiatedLogout: { enabled: false },
      pushedAuthorizationRequests: { enabled: false },
      revocation: {
        enabled: true,
        allowedPolicy: (_context, client, token) => token.clientId === client.clientId,
      },
      resourceIndicators: resourceIndicators(parts, module),
      ...(deviceFlow && { deviceFlow: deviceFlowFeature(hooks) }),
    },
  };
}

/** Responses, algorithms and rules of clients, the same for every gateway. */
const protocol = {
  responseTypes: ['code', 'none'],
  scopes: [grantScope],
  subjectTypes: ['public'],
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  enabledJWA: {
    idTokenSigningAlgValues: ['ES256'],
    dPoPSigningAlgValues: ['ES256', 'EdDSA'],
  },
  pkce: { required: () => true },
  allowOmittingSingleRegisteredRedirectUri: false,
  clientBasedCORS: () => false,
  // A program stays signed in when its browser signs out; each has its own button.
  expiresWithSession: () => false,
  issueRefreshToken: (_context, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
} satisfies Configuration;

/** Finds a person who is still allowed to sign in; at the token endpoint, the identity provider is asked first. */
function accountFinder({
  identities,
  signIns,
  revalidator,
}: AuthorizationServerParts): NonNullable<Configuration['findAccount']> {
  return async (context, subject, token) => {
    if (context.oidc.route === 'token' && !(await revalidator.isStillAllowed(subject, 0))) return undefined;
    const [identity, signIn] = await Promise.all([
      identities.find(subject),
      token?.grantId === undefined || signIns.find(token.grantId),
    ]);
    return identity && signIn && { accountId: subject, claims: () => ({ sub: subject }) };
  };
}

/** In seconds. */
function lifetimes(
  { times }: AuthorizationServerParts,
  grants: SignInGrants,
): NonNullable<Configuration['ttl']> {
  return {
    AccessToken: (context) => grants.limitLifetime(context, seconds(times.accessTokenMs)),
    RefreshToken: (context) => grants.limitLifetime(context, seconds(times.sessionMs)),
    AuthorizationCode: 60,
    DeviceCode: 600,
    Grant: seconds(times.sessionMs),
    IdToken: seconds(times.accessTokenMs),
    Interaction: 900,
    // A session without a sign-in is for a form or two.
    Session: (_context, session) => (session.accountId === undefined ? 900 : seconds(times.sessionMs)),
  };
}

/** The gateway is the only resource; a request need not name it (RFC 8707). */
function resourceIndicators(
  { publicUrl, keys, audience }: AuthorizationServerParts,
  module: OidcProvider,
): Features['resourceIndicators'] {
  const resource = publicUrl.href;
  return {
    enabled: true,
    defaultResource: (context) => {
      const { params } = context.oidc;
      if (params && params['scope'] === undefined) params['scope'] = grantScope;
      return resource;
    },
    useGrantedResource: () => true,
    getResourceServerInfo: (_context, requested) => {
      if (requested !== resource) throw new module.errors.InvalidTarget();
      const [{ kid }] = keys.current;
      return {
        scope: '',
        audience,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256', ...(kid !== undefined && { kid }) } },
      };
    },
  };
}

/** RFC 8628, with pages of the gateway. */
function deviceFlowFeature({ codes }: ProviderHooks): Features['deviceFlow'] {
  return {
    enabled: true,
    mask: '****-****',
    charset: 'base-20',
    deviceInfo: (context) => codes.infoOf(context),
    userCodeInputSource: (context, _form, _out, error) => codes.showCodeForm(context, error),
    userCodeConfirmSource: (context, _form, _client, info, code) =>
      codes.showConfirmation(context, info, code),
    successSource: (context) => codes.showDone(context),
  };
}

function seconds(ms: number): number {
  return Math.max(1, Math.floor(ms / 1000));
}
