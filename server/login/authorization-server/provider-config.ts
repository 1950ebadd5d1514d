import type { AdapterFactory, Configuration, KoaContextWithOIDC } from 'oidc-provider';
import type { Counter } from '../../policy/counter.ts';
import type { Store } from '../../store/store.ts';
import { browserCookies } from '../pages/cookies.ts';
import type { DeviceCodes } from './device-codes.ts';
import { grantScope } from './grants.ts';
import type { GrantParts, SignInGrants } from './grants.ts';
import { clients } from './clients.ts';
import type { OidcProvider } from './import-oidc-provider.ts';
import type { Revalidator } from '../upstream/revalidation.ts';
import type { SigningKeys } from './signing-keys.ts';

export interface AuthorizationServerParts extends GrantParts {
  readonly publicUrl: URL;
  readonly store: Store;
  readonly keys: SigningKeys;
  readonly rechecks: Pick<Revalidator, 'isStillAllowed'>;
  readonly deviceFlow: boolean;
  /** `aud` of the access tokens. */
  readonly audience: string;
  readonly onError: (error: unknown) => void;
  /** Counts what comes to other processes too. */
  readonly counter?: Counter | undefined;
}

/** What answers the questions that oidc-provider has while it works. */
export interface SettingsParts {
  readonly grants: SignInGrants;
  readonly codes: DeviceCodes;
  readonly adapter: AdapterFactory;
  readonly module: OidcProvider;
  readonly renderError: (context: KoaContextWithOIDC, out: { readonly error: string }) => void;
}

/** What of OAuth the gateway speaks: how long things live, what tokens say, and what is switched off. */
export function configuration(
  { publicUrl, keys, identities, signIns, rechecks, times, deviceFlow, audience }: AuthorizationServerParts,
  { grants, codes, adapter, module, renderError }: SettingsParts,
): Configuration {
  const resource = publicUrl.href;
  return {
    adapter,
    clients: clients(publicUrl, deviceFlow),
    jwks: { keys: [...keys.current] },
    cookies: { ...browserCookies(publicUrl), keys: [...keys.secrets] },
    routes: { authorization: '/auth', code_verification: '/device', token: '/token', jwks: '/jwks' },
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
    findAccount: async (context, subject, token) => {
      if (context.oidc.route === 'token' && !(await rechecks.isStillAllowed(subject, 0))) return undefined;
      const [identity, signIn] = await Promise.all([
        identities.find(subject),
        token?.grantId === undefined || signIns.find(token.grantId),
      ]);
      return identity && signIn && { accountId: subject, claims: () => ({ sub: subject }) };
    },
    loadExistingGrant: (context) => grants.load(context),
    extraTokenClaims: (_context, token) => grants.claims(token as never),
    interactions: {
      policy: grants.policy(module.interactionPolicy),
      url: (_context, interaction) => `${publicUrl.pathname}sign-in/${interaction.uid}`,
    },
    ttl: {
      AccessToken: (context) => grants.atMost(context, seconds(times.accessTokenMs)),
      RefreshToken: (context) => grants.atMost(context, seconds(times.sessionMs)),
      AuthorizationCode: 60,
      DeviceCode: 600,
      Grant: seconds(times.sessionMs),
      IdToken: seconds(times.accessTokenMs),
      Interaction: 900,
      // One that nobody has signed in to is for a form or two.
      Session: (_context, session) => (session.accountId === undefined ? 900 : seconds(times.sessionMs)),
    },
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
      resourceIndicators: {
        enabled: true,
        defaultResource: (context) => {
          // There is one thing to ask for; a request need not spell it out.
          const { params } = context.oidc;
          if (params && params['scope'] === undefined) params['scope'] = grantScope;
          return resource;
        },
        useGrantedResource: () => true,
        getResourceServerInfo: (_context, asked) => {
          if (asked !== resource) throw new module.errors.InvalidTarget();
          const [{ kid }] = keys.current;
          return {
            scope: '',
            audience,
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: 'ES256', ...(kid !== undefined && { kid }) } },
          };
        },
      },
      ...(deviceFlow && {
        deviceFlow: {
          enabled: true,
          mask: '****-****',
          charset: 'base-20',
          deviceInfo: (context) => codes.infoOf(context),
          userCodeInputSource: (context, _form, _out, error) => codes.ask(context, error),
          userCodeConfirmSource: (context, _form, _client, info, code) => codes.confirm(context, info, code),
          successSource: (context) => codes.done(context),
        },
      }),
    },
  };
}

function seconds(ms: number): number {
  return Math.max(1, Math.floor(ms / 1000));
}
