import { readRegularFile } from '../../../base/regular-file.ts';
import type { Configuration } from 'openid-client';
import { isSecureUrl } from '../../net/secure-url.ts';
import type { ProviderConfig } from '../../config/config.ts';
import type { Origin } from '../sign-ins.ts';
import type { UpstreamIdentity } from './identities.ts';
import type { AuthorizationRequestState, UpstreamLogin } from './pending-logins.ts';

type OpenIdClient = typeof import('openid-client');

/** Why a sign-in at a provider failed. */
export class ProviderRefusal extends Error {
  override readonly name = 'ProviderRefusal';
  readonly code: 'provider_down' | 'provider_refused' | 'subject_unusable';

  constructor(code: ProviderRefusal['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** What a provider has stated of a person, and how it can be asked again. */
export interface ProviderLogin extends UpstreamLogin {
  /** Where `recheck` is on. */
  readonly refreshToken?: string;
}

/**
 * Metadata is read again after this time. When that fails, the last good ones are used for a day, as the keys of issuers
 * are; a provider that was down from the start is asked again at each sign-in.
 */
const metadataMs = 600_000;
const retryMs = 10_000;
const maxStaleMs = 24 * 3_600_000;
const timeoutSeconds = 10;
const maxSecretBytes = 64 * 1024;

/** An identity provider of the configuration. It is discovered when it is first needed. */
export class IdentityProvider {
  readonly config: ProviderConfig;
  readonly #redirectUri: URL;
  #discovered: Discovered | undefined;
  #lastGood: { readonly client: Client; readonly at: number } | undefined;

  /** `redirectUri` is this provider's alone, so that no other's answer can be taken for its own. */
  constructor(config: ProviderConfig, redirectUri: URL) {
    this.config = config;
    this.#redirectUri = redirectUri;
  }

  /** Where the browser goes, and what to remember until it is back. Rejects with `ProviderRefusal`. */
  async beginLogin(): Promise<{ readonly url: URL; readonly request: AuthorizationRequestState }> {
    const { openid, server } = await this.#client();
    const request = {
      state: openid.randomState(),
      nonce: openid.randomNonce(),
      verifier: openid.randomPKCECodeVerifier(),
    };
    const url = openid.buildAuthorizationUrl(server, {
      redirect_uri: this.#redirectUri.href,
      scope: this.config.scopes.join(' '),
      state: request.state,
      nonce: request.nonce,
      code_challenge: await openid.calculatePKCECodeChallenge(request.verifier),
      code_challenge_method: 'S256',
    });
    return { url, request };
  }

  /** The person who came back, by the URL of the return. Rejects with `ProviderRefusal`. */
  async completeLogin(url: URL, request: AuthorizationRequestState): Promise<ProviderLogin> {
    const { config } = this;
    const { openid, server } = await this.#client();
    return refusing(config, async () => {
      const tokens = await openid.authorizationCodeGrant(server, url, {
        expectedState: request.state,
        expectedNonce: request.nonce,
        pkceCodeVerifier: request.verifier,
        idTokenExpected: true,
      });
      const claims = await claimsOf({ openid, server }, config, tokens);
      const login = { identity: identityOf(claims, config), origin: originOf(claims, config) };
      if (!config.recheck) return login;
      const { refresh_token: refreshToken } = tokens;
      if (refreshToken === undefined)
        throw new ProviderRefusal(
          'provider_refused',
          `${config.name} issued no refresh token to recheck with`,
        );
      return { ...login, refreshToken };
    });
  }

  /** What the provider states of the person now; uses the refresh token up. Rejects with `ProviderRefusal`. */
  async recheck(refreshToken: string, origin: Origin): Promise<ProviderLogin> {
    const { config } = this;
    const { openid, server } = await this.#client();
    return refusing(config, async () => {
      const tokens = await openid.refreshTokenGrant(server, refreshToken);
      const claims = await claimsOf({ openid, server }, config, tokens, origin.subject);
      if (claims['sub'] !== origin.subject)
        throw new ProviderRefusal('provider_refused', `${config.name} answered for another person`);
      // Not every provider gives a new one each time (RFC 6749 section 6).
      return {
        identity: identityOf(claims, config),
        origin,
        refreshToken: tokens.refresh_token ?? refreshToken,
      };
    });
  }

  async #client(): Promise<Client> {
    if (!this.#discovered || this.#discovered.until <= performance.now()) {
      const client = discover(this.config);
      this.#discovered = { client, until: performance.now() + metadataMs };
      client.then(
        (found) => (this.#lastGood = { client: found, at: performance.now() }),
        () => (this.#discovered = this.#afterFailure()),
      );
    }
    try {
      return await this.#discovered.client;
    } catch (cause) {
      const lastGood = this.#afterFailure();
      if (lastGood) return lastGood.client;
      throw new ProviderRefusal('provider_down', `the metadata of ${this.config.name} cannot be read`, {
        cause,
      });
    }
  }

  #afterFailure(): Discovered | undefined {
    const lastGood = this.#lastGood;
    if (!lastGood || performance.now() - lastGood.at >= maxStaleMs) return undefined;
    return { client: Promise.resolve(lastGood.client), until: performance.now() + retryMs };
  }
}

interface Discovered {
  readonly client: Promise<Client>;
  readonly until: number;
}

interface Client {
  readonly openid: OpenIdClient;
  readonly server: Configuration;
}

async function discover(config: ProviderConfig): Promise<Client> {
  const openid = await import('openid-client');
  const issuer = new URL(config.issuer);
  const secret =
    config.clientSecretFile &&
    (await readRegularFile(config.clientSecretFile, maxSecretBytes)).bytes.toString().trim();
  // http only without an intermediary: a provider on this machine.
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
  // Compared byte by byte: otherwise one issuer could speak for another (OpenID Connect Discovery 1.0 section 4.3).
  if (server.serverMetadata().issuer !== config.issuer) throw new Error('the metadata is of another issuer');
  return { openid, server };
}

type Claims = Readonly<Record<string, unknown>>;

/** The provider's claims about the person: those of the ID token, and for what that leaves out, those of the user information. */
async function claimsOf(
  { openid, server }: Client,
  { groupsClaim, subjectClaim }: ProviderConfig,
  tokens: Awaited<ReturnType<OpenIdClient['refreshTokenGrant']>>,
  subject?: string,
): Promise<Claims> {
  const claims: Claims = tokens.claims() ?? {};
  if (groupsClaim in claims && subjectClaim in claims) return claims;
  if (server.serverMetadata().userinfo_endpoint === undefined) return claims;
  // OpenID Connect Core 1.0 section 5.4.
  const expected = subject ?? String(claims['sub']);
  return { ...(await openid.fetchUserInfo(server, tokens.access_token, expected)), ...claims };
}

/** Runs an exchange with a provider; every error becomes a `ProviderRefusal`. */
async function refusing<T>(config: ProviderConfig, exchange: () => Promise<T>): Promise<T> {
  try {
    return await exchange();
  } catch (cause) {
    if (cause instanceof ProviderRefusal) throw cause;
    const code = isDown(cause) ? 'provider_down' : 'provider_refused';
    throw new ProviderRefusal(code, `sign-in at ${config.name} failed`, { cause });
  }
}

/** Whether the network or the provider's server failed, rather than the sign-in. */
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

function identityOf(claims: Claims, config: ProviderConfig): UpstreamIdentity {
  const { name: provider, subjectClaim, subjectPrefix, groupsClaim } = config;
  const name = claims[subjectClaim];
  if (!isPlainText(name, 256 - subjectPrefix.length))
    throw unusable(`${subjectClaim} is not usable as a name`);
  if (subjectClaim === 'email' && !isOwnEmail(name, claims))
    throw unusable('the e-mail address is not verified');
  return { subject: subjectPrefix + name, groups: groupsOf(claims[groupsClaim], config.groups), provider };
}

/** A person who can choose an address freely could choose another person's. */
function isOwnEmail(address: string, claims: Claims): boolean {
  return claims['email_verified'] === true && /^[\x21-\x3f\x41-\x7e]+@[a-z0-9.-]+$/i.test(address);
}

function groupsOf(claim: unknown, ours: ReadonlyMap<string, string> | undefined): readonly string[] {
  if (claim === undefined) return [];
  const groups: unknown = typeof claim === 'string' ? [claim] : claim;
  if (!Array.isArray(groups) || groups.length > 1000 || !groups.every((each) => isPlainText(each, 256)))
    throw unusable('the groups are not a list of names');
  const named = groups as readonly string[];
  return ours ? [...new Set(named.flatMap((group) => ours.get(group) ?? []))] : named;
}

function originOf({ sub, sid }: Claims, { name: provider }: ProviderConfig): Origin {
  return { provider, subject: String(sub), ...(isPlainText(sid, 256) && { session: sid }) };
}

/** Text that can be logged, shown and compared: the same as the gateway's own check of tokens accepts. */
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
