import type { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AdapterFactory, Configuration, KoaContextWithOIDC, default as Provider } from 'oidc-provider';
import { signInIssuer } from '../auth/sign-in-issuer.ts';
import { errorPage, explainError } from '../web/error-page.ts';
import { pageHeaders } from '../web/page.ts';
import type { Store } from '../store/store.ts';
import { storeAdapter } from './adapter.ts';
import { browserCookies } from './cookies.ts';
import { DeviceCodes } from './device-codes.ts';
import { grantScope, SignInGrants, webClientId } from './grants.ts';
import type { GrantParts, LoginResult } from './grants.ts';
import { importQuietly } from './oidc-provider.ts';
import type { OidcProvider } from './oidc-provider.ts';
import type { Rechecks } from './rechecks.ts';
import { RequestRate } from './request-rate.ts';
import { isLoopbackRedirect } from './redirect-uri.ts';
import type { SigningKeys } from './signing-keys.ts';

export interface AuthorizationServerParts extends GrantParts {
  readonly publicUrl: URL;
  readonly store: Store;
  readonly keys: SigningKeys;
  readonly rechecks: Pick<Rechecks, 'mayGoOn'>;
  readonly deviceFlow: boolean;
  /** `aud` of the access tokens. */
  readonly audience: string;
  readonly onTrouble: (error: unknown) => void;
}

/** How the person's part of a sign-in went. */
export type InteractionOutcome =
  | { readonly login?: LoginResult; readonly consent?: Record<string, never> }
  | { readonly error: 'access_denied' };

/** One sign-in that a person is in the middle of: which page comes next, and what for. */
export type Interaction = Awaited<ReturnType<Provider['interactionDetails']>>;

/** The session of a browser that has signed in. */
export interface BrowserSession {
  readonly subject: string;
  readonly signInId: string;
}

/** The authorization server of the gateway: OAuth for the client, and the session of the browser. */
export class AuthorizationServer {
  readonly issuer: string;
  readonly #parts: AuthorizationServerParts;
  readonly #module: OidcProvider;
  readonly #mountPath: string;
  #provider: Provider;
  #builtWith: SigningKeys['current'];
  #handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>;

  static async open(parts: AuthorizationServerParts): Promise<AuthorizationServer> {
    return new AuthorizationServer(parts, await importQuietly());
  }

  private constructor(parts: AuthorizationServerParts, module: OidcProvider) {
    this.#parts = parts;
    this.#module = module;
    this.issuer = signInIssuer(parts.publicUrl);
    this.#mountPath = new URL(this.issuer).pathname;
    this.#builtWith = parts.keys.current;
    this.#provider = buildProvider(this.issuer, parts, module);
    this.#handle = this.#provider.callback();
  }

  /** Answers a request below the issuer's path. Settles when it is answered, and never rejects. */
  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = request.url ?? '';
    // Fastify has found the route by a path that it decoded; a spelling of its own would confuse what comes after.
    const isOurs = url.startsWith(`${this.#mountPath}/`);
    this.#renew();
    Object.assign(request, {
      url: isOurs ? url.slice(this.#mountPath.length) : '/',
      baseUrl: this.#mountPath,
    });
    await this.#handle(request, response);
  }

  /** The sign-in that the browser is in the middle of. Throws when its cookie does not say so. */
  async interaction(request: IncomingMessage, response: ServerResponse): Promise<Interaction> {
    return this.#provider.interactionDetails(request, response);
  }

  /** Tells how an interaction went. Resolves to where the browser goes on. */
  async proceed(
    request: IncomingMessage,
    response: ServerResponse,
    result: InteractionOutcome,
  ): Promise<string> {
    return this.#provider.interactionResult(
      request,
      response,
      { ...result },
      { mergeWithLastSubmission: false },
    );
  }

  /** Signs the browser out in the middle of an interaction, so that somebody else can sign in. */
  async forgetWho(interaction: Interaction): Promise<void> {
    const { session: about } = interaction;
    const session = about && (await this.#provider.Session.findByUid(about.uid));
    const signInId = session?.grantIdFor(webClientId);
    if (signInId !== undefined) await this.#parts.signIns.end(signInId, 'somebody else signed in');
    await session?.destroy();
    interaction.session = undefined;
    await interaction.persist();
  }

  /** Ends an interaction without a result. */
  async abandon(interaction: Interaction): Promise<void> {
    await interaction.destroy();
  }

  /** Who the browser is signed in as; undefined when nobody, or when that sign-in is over. */
  async browserSession(
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<BrowserSession | undefined> {
    const session = await this.#provider.Session.get(this.#provider.createContext(request, response));
    const { accountId: subject } = session;
    const signInId = session.grantIdFor(webClientId);
    if (subject === undefined || signInId === undefined) return undefined;
    const { rechecks, times } = this.#parts;
    if (!(await rechecks.mayGoOn(subject, times.accessTokenMs))) return undefined;
    const [signIn, identity] = await Promise.all([
      this.#parts.signIns.find(signInId),
      this.#parts.identities.find(subject),
    ]);
    return signIn && identity ? { subject, signInId } : undefined;
  }

  /** Where a browser is sent to sign in for the pages. */
  get signInUrl(): string {
    const url = new URL(`${this.issuer}/auth`);
    url.searchParams.set('client_id', webClientId);
    url.searchParams.set('response_type', 'none');
    url.searchParams.set('scope', grantScope);
    url.searchParams.set('redirect_uri', webRedirectUri(this.#parts.publicUrl));
    return url.href;
  }

  /** Where a browser is sent to begin the same sign-in from the start. */
  restartUrl(interaction: Interaction): string {
    if (interaction.deviceCode !== undefined) return `${this.issuer}/device`;
    const url = new URL(`${this.issuer}/auth`);
    for (const [name, value] of Object.entries(interaction.params)) {
      if (typeof value === 'string') url.searchParams.set(name, value);
    }
    return url.href;
  }

  /** The keys may have changed: the provider takes them at its making only. What it remembers is in the store. */
  #renew(): void {
    const { current } = this.#parts.keys;
    if (current.map(({ kid }) => kid).join() === this.#builtWith.map(({ kid }) => kid).join()) return;
    this.#builtWith = current;
    this.#provider = buildProvider(this.issuer, this.#parts, this.#module);
    this.#handle = this.#provider.callback();
  }
}

/** For one network and minute: more than people behind one address need, less than fills a disk. */
const maxRequests = 120;

/** Where the browser comes back to when it has signed in for the pages. */
export function webRedirectUri(publicUrl: URL): string {
  return new URL('access/signed-in', publicUrl).href;
}

function buildProvider(issuer: string, parts: AuthorizationServerParts, module: OidcProvider): Provider {
  const { store, signIns, publicUrl, deviceFlow, onTrouble } = parts;
  const grants = new SignInGrants(parts);
  const codes = new DeviceCodes(parts);
  const adapter = storeAdapter(store, {
    onGrantEnded: (id) => signIns.ended(id, reasonOf(module.default.ctx)),
    usedTwice: () => new module.errors.InvalidGrant('it was used already'),
  });
  const provider = new module.default(issuer, configuration(parts, { grants, codes, adapter, module }));
  knowNothingFromRequests(provider, new URL(issuer));
  allowLoopbackRedirects(provider);
  const rate = new RequestRate(maxRequests);
  provider.use(async (context, next) => {
    const waitMs = isRemembered(context) ? rate.take(parts.remoteAddress(context.req)) : 0;
    if (waitMs > 0) {
      context.status = 429;
      context.set('Retry-After', String(Math.ceil(waitMs / 1000)));
      showError(context as never, { error: 'too_many_requests' }, publicUrl);
      return;
    }
    if (deviceFlow && context.path === '/device') await codes.guard(context as never, next);
    else await next();
    if (context.status === 404 && context.body == null)
      showError(context as never, { error: 'not_found' }, publicUrl);
    context.set('X-Content-Type-Options', 'nosniff');
    delete (context.body as { verification_uri_complete?: string } | null)?.verification_uri_complete;
  });
  (provider as EventEmitter).on('error', onTrouble);
  provider.on('server_error', (_context, error) => onTrouble(error));
  return provider;
}

function seconds(ms: number): number {
  return Math.max(1, Math.floor(ms / 1000));
}

/** Each of these is a write to the disk, for somebody who has not signed in. */
function isRemembered({ method, path }: { method: string; path: string }): boolean {
  return method === 'GET' ? path === '/auth' || path === '/device' : path === '/device/auth';
}

function configuration(
  { publicUrl, keys, identities, signIns, rechecks, times, deviceFlow, audience }: AuthorizationServerParts,
  {
    grants,
    codes,
    adapter,
    module,
  }: { grants: SignInGrants; codes: DeviceCodes; adapter: AdapterFactory; module: OidcProvider },
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
      if (context.oidc.route === 'token' && !(await rechecks.mayGoOn(subject, 0))) return undefined;
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
    renderError: (context, out) => showError(context, out, publicUrl),
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

function clients(publicUrl: URL, deviceFlow: boolean): Configuration['clients'] {
  return [
    {
      client_id: 'postern',
      client_name: 'postern',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      response_types: ['code'],
      grant_types: [
        'authorization_code',
        'refresh_token',
        ...(deviceFlow ? ['urn:ietf:params:oauth:grant-type:device_code'] : []),
      ],
      // Any port and any path of it: `isLoopbackRedirect`.
      redirect_uris: ['http://127.0.0.1/'],
      dpop_bound_access_tokens: true,
    },
    {
      client_id: webClientId,
      client_name: 'this browser',
      application_type: publicUrl.protocol === 'https:' ? 'web' : 'native',
      token_endpoint_auth_method: 'none',
      // It gets no code and no token, only the session.
      response_types: ['none'],
      grant_types: [],
      redirect_uris: [webRedirectUri(publicUrl)],
    },
  ];
}

/** What a request says of the host it came to, or of the way, is nobody's word: the issuer knows all of it. */
function knowNothingFromRequests(provider: Provider, issuer: URL): void {
  const known = { protocol: issuer.protocol.slice(0, -1), host: issuer.host, ips: [] };
  for (const [name, value] of Object.entries(known)) {
    Object.defineProperty(provider.request, name, { get: () => value });
  }
}

function allowLoopbackRedirects(provider: Provider): void {
  const { prototype } = provider.Client as unknown as { prototype: object };
  const allowed = Reflect.get(prototype, 'redirectUriAllowed') as (this: unknown, uri: string) => boolean;
  Reflect.set(prototype, 'redirectUriAllowed', function isAllowed(this: { clientId: string }, uri: string) {
    return this.clientId === 'postern' ? isLoopbackRedirect(uri) : allowed.call(this, uri);
  });
}

function showError(context: KoaContextWithOIDC, out: { readonly error: string }, publicUrl: URL): void {
  const { error } = out;
  if (error === 'not_found') context.status = 404;
  context.set(pageHeaders());
  if (context.accepts('html', 'json') === 'json') {
    context.body = out;
    return;
  }
  context.type = 'html';
  context.body = errorPage(explainError(error), publicUrl);
}

/** Why a grant has ended, when oidc-provider itself has ended it. */
function reasonOf(context: KoaContextWithOIDC | undefined): string {
  if (context?.oidc.route === 'revocation') return 'signed out';
  return context?.oidc.route === 'token' ? 'a code or a refresh token was used twice' : 'ended';
}
