import { readFile } from 'node:fs/promises';
import type { Configuration } from 'openid-client';
import { isSecureUrl } from '../../net/secure-url.ts';
import type { ProviderConfig } from '../../config/config.ts';
import type { Identity } from './identities.ts';
import type { Origin } from '../sign-ins.ts';

type OpenIdClient = typeof import('openid-client');

/** Why a provider did not say who somebody is. */
export class ProviderRefusal extends Error {
  override readonly name = 'ProviderRefusal';
  readonly code: 'provider_down' | 'provider_refused' | 'subject_unusable';

  constructor(code: ProviderRefusal['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** What has to be remembered while a person is at the provider. */
export interface AuthorizationRequestState {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
}

/** What a provider has said of a person. */
export interface ProviderLogin {
  readonly identity: Identity;
  /** By what the provider will name them when it ends their session. */
  readonly origin: Origin;
  /** What the provider can be asked with again; where `recheck` is on. */
  readonly refreshToken?: string;
}

/** An identity provider of the configuration, found when it is first needed. */
export interface IdentityProvider {
  readonly config: ProviderConfig;
  /** Where the browser goes, and what to remember until it is back. Rejects with `ProviderRefusal`. */
  beginLogin(): Promise<{ readonly url: URL; readonly departure: AuthorizationRequestState }>;
  /** Who came back, by the URL that they came back to. Rejects with `ProviderRefusal`. */
  completeLogin(url: URL, departure: AuthorizationRequestState): Promise<ProviderLogin>;
  /** What the provider says of them now; the refresh token is used up. Rejects with `ProviderRefusal`. */
  recheck(refreshToken: string, origin: Origin): Promise<ProviderLogin>;
}

/** Metadata is read again after this time, and a provider that was down is asked again at each sign-in. */
const metadataMs = 600_000;
const timeoutSeconds = 10;

/** Signs people in at a provider. `redirectUri` is this provider's alone, so that no other's answer can be taken for its own. */
export function identityProvider(config: ProviderConfig, redirectUri: URL): IdentityProvider {
  let known: { readonly client: Promise<Client>; readonly until: number } | undefined;

  async function client(): Promise<Client> {
    if (!known || known.until <= performance.now()) {
      const found = discover(config);
      known = { client: found, until: performance.now() + metadataMs };
      found.catch(() => (known = undefined));
    }
    try {
      return await known.client;
    } catch (cause) {
      throw new ProviderRefusal('provider_down', `the metadata of ${config.name} cannot be had`, { cause });
    }
  }

  return {
    config,
    async beginLogin() {
      const { openid, server } = await client();
      const departure = {
        state: openid.randomState(),
        nonce: openid.randomNonce(),
        verifier: openid.randomPKCECodeVerifier(),
      };
      const url = openid.buildAuthorizationUrl(server, {
        redirect_uri: redirectUri.href,
        scope: config.scopes.join(' '),
        state: departure.state,
        nonce: departure.nonce,
        code_challenge: await openid.calculatePKCECodeChallenge(departure.verifier),
        code_challenge_method: 'S256',
      });
      return { url, departure };
    },

    async completeLogin(url, departure) {
      const { openid, server } = await client();
      return asking(config, async () => {
        const tokens = await openid.authorizationCodeGrant(server, url, {
          expectedState: departure.state,
          expectedNonce: departure.nonce,
          pkceCodeVerifier: departure.verifier,
          idTokenExpected: true,
        });
        const claims = await claimsOf({ openid, server }, config, tokens);
        const arrival = { identity: identityOf(claims, config), origin: originOf(claims, config) };
        if (!config.recheck) return arrival;
        const { refresh_token: refreshToken } = tokens;
        if (refreshToken === undefined)
          throw new ProviderRefusal(
            'provider_refused',
            `${config.name} gives no refresh token to recheck with`,
          );
        return { ...arrival, refreshToken };
      });
    },

    async recheck(refreshToken, origin) {
      const { openid, server } = await client();
      return asking(config, async () => {
        const tokens = await openid.refreshTokenGrant(server, refreshToken);
        const claims = await claimsOf({ openid, server }, config, tokens, origin.subject);
        if (claims['sub'] !== origin.subject)
          throw new ProviderRefusal('provider_refused', `${config.name} speaks of somebody else`);
        // Not every provider gives a new one each time (RFC 6749 §6).
        return {
          identity: identityOf(claims, config),
          origin,
          refreshToken: tokens.refresh_token ?? refreshToken,
        };
      });
    },
  };
}

interface Client {
  readonly openid: OpenIdClient;
  readonly server: Configuration;
}

async function discover(config: ProviderConfig): Promise<Client> {
  const openid = await import('openid-client');
  const issuer = new URL(config.issuer);
  const secret = config.clientSecretFile && (await readFile(config.clientSecretFile, 'utf8')).trim();
  // http only where nobody is in between: a provider on this machine.
  const execute = [openid.enableNonRepudiationChecks];
  if (issuer.protocol === 'http:' && isSecureUrl(issuer)) execute.push(openid.allowInsecureRequests);
  const server = await openid.discovery(
    issuer,
    config.clientId,
    undefined,
    secret ? openid.ClientSecretBasic(secret) : openid.None(),
    {
      execute,
      timeout: timeoutSeconds,
    },
  );
  // Compared byte by byte: otherwise one issuer could speak for another (OpenID Connect Discovery 1.0 §4.3).
  if (server.serverMetadata().issuer !== config.issuer) throw new Error('the metadata is of another issuer');
  return { openid, server };
}

type Claims = Readonly<Record<string, unknown>>;

/** What the provider says of the person: in the ID token, and what that leaves out, in the user information. */
async function claimsOf(
  { openid, server }: Client,
  { groupsClaim, subjectClaim }: ProviderConfig,
  tokens: Awaited<ReturnType<OpenIdClient['refreshTokenGrant']>>,
  subject?: string,
): Promise<Claims> {
  const claims: Claims = tokens.claims() ?? {};
  if (groupsClaim in claims && subjectClaim in claims) return claims;
  if (server.serverMetadata().userinfo_endpoint === undefined) return claims;
  // OpenID Connect Core 1.0 §5.4.
  const expected = subject ?? String(claims['sub']);
  return { ...(await openid.fetchUserInfo(server, tokens.access_token, expected)), ...claims };
}

/** Asks a provider; whatever goes wrong becomes a `ProviderRefusal`. */
async function asking<T>(config: ProviderConfig, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    if (cause instanceof ProviderRefusal) throw cause;
    const code = isDown(cause) ? 'provider_down' : 'provider_refused';
    throw new ProviderRefusal(code, `sign-in at ${config.name} failed`, { cause });
  }
}

/** Whether it is the way or the provider's machine that failed, and not the sign-in. */
function isDown(error: unknown): boolean {
  const { code, cause, status } = error as {
    code?: unknown;
    cause?: { status?: unknown } | undefined;
    status?: unknown;
  };
  const answered = status ?? cause?.status;
  if (typeof answered === 'number') return answered >= 500;
  return code === 'OAUTH_TIMEOUT' || (error instanceof TypeError && code === undefined);
}

function identityOf(claims: Claims, config: ProviderConfig): Identity {
  const { name: provider, subjectClaim, subjectPrefix, groupsClaim } = config;
  const said = claims[subjectClaim];
  if (!isPlainText(said, 256 - subjectPrefix.length)) throw unusable(`${subjectClaim} is no name`);
  if (subjectClaim === 'email' && !isOwnEmail(said, claims))
    throw unusable('the e-mail address is not verified');
  return { subject: subjectPrefix + said, groups: groupsOf(claims[groupsClaim], config.groups), provider };
}

/** Who may choose an address freely could choose somebody else's. */
function isOwnEmail(address: string, claims: Claims): boolean {
  return claims['email_verified'] === true && /^[\x21-\x3f\x41-\x7e]+@[a-z0-9.-]+$/i.test(address);
}

function groupsOf(said: unknown, ours: ReadonlyMap<string, string> | undefined): readonly string[] {
  if (said === undefined) return [];
  const groups: unknown = typeof said === 'string' ? [said] : said;
  if (!Array.isArray(groups) || groups.length > 1000 || !groups.every((each) => isPlainText(each, 256)))
    throw unusable('the groups are no list of names');
  const named = groups as readonly string[];
  return ours ? [...new Set(named.flatMap((group) => ours.get(group) ?? []))] : named;
}

function originOf({ sub, sid }: Claims, { name: provider }: ProviderConfig): Origin {
  return { provider, subject: String(sub), ...(isPlainText(sid, 256) && { session: sid }) };
}

/** Text that can be logged, shown and compared: what the gateway's own check of tokens takes. */
function isPlainText(value: unknown, maxLength: number): value is string {
  return (
    typeof value === 'string' &&
    value.length > 0 &&
    value.length <= maxLength &&
    !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(value)
  );
}

function unusable(message: string): ProviderRefusal {
  return new ProviderRefusal('subject_unusable', message);
}
