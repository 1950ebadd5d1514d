import type { IncomingMessage, ServerResponse } from 'node:http';
import type { default as Provider } from 'oidc-provider';
import { signInIssuer } from '../../config/issuer-urls.ts';
import { grantScope, webClientId } from './grants.ts';
import type { LoginResult } from './grants.ts';
import { webRedirectUri } from './clients.ts';
import { buildProvider } from './provider.ts';
import type { AuthorizationServerParts } from './provider-config.ts';
import { importOidcProvider } from './import-oidc-provider.ts';
import type { OidcProvider } from './import-oidc-provider.ts';
import type { SigningKeys } from './signing-keys.ts';
import { targetOf } from './routes.ts';
import type { OAuthRoute } from './routes.ts';

/** The outcome of the person's part of a sign-in. */
export type InteractionOutcome =
  | { readonly login?: LoginResult; readonly consent?: Record<string, never> }
  | { readonly error: 'access_denied' };

/** A sign-in under way: its next page, and its purpose. */
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
  /** The route of each request that oidc-provider has. */
  readonly #routes = new WeakMap<IncomingMessage, OAuthRoute>();
  #provider: Provider;
  #builtWith: SigningKeys['current'];
  #handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>;

  static async open(parts: AuthorizationServerParts): Promise<AuthorizationServer> {
    return new AuthorizationServer(parts, await importOidcProvider());
  }

  private constructor(parts: AuthorizationServerParts, module: OidcProvider) {
    this.#parts = parts;
    this.#module = module;
    this.issuer = signInIssuer(parts.publicUrl);
    this.#mountPath = new URL(this.issuer).pathname;
    this.#builtWith = parts.keys.current;
    this.#provider = this.#build();
    this.#handle = this.#provider.callback();
  }

  /**
   * Answers a request of a route; `uid` is the parameter of its path, `query` what follows the question mark. Resolves when
   * it is answered, and never rejects.
   */
  async answer(
    request: IncomingMessage,
    response: ServerResponse,
    { route, uid, query }: { route: OAuthRoute; uid?: string | undefined; query: string },
  ): Promise<void> {
    this.#renew();
    this.#routes.set(request, route);
    // What the request has as its path went to the router before; oidc-provider reads what the table says.
    Object.assign(request, { url: targetOf(route, { uid, query }), baseUrl: this.#mountPath });
    await this.#handle(request, response);
  }

  /** The sign-in that is under way in the browser. Rejects when its cookie does not name one. */
  async interaction(request: IncomingMessage, response: ServerResponse): Promise<Interaction> {
    return this.#provider.interactionDetails(request, response);
  }

  /** Reports the outcome of an interaction. Resolves to the URL where the browser continues. */
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

  /** Signs the browser out in the middle of an interaction, so that another person can sign in. */
  async signOutBrowser(interaction: Interaction): Promise<void> {
    const { session: about } = interaction;
    const session = about && (await this.#provider.Session.findByUid(about.uid));
    const signInId = session?.grantIdFor(webClientId);
    if (signInId !== undefined) await this.#parts.signIns.end(signInId, 'another person signed in');
    await session?.destroy();
    interaction.session = undefined;
    await interaction.persist();
  }

  /** Ends an interaction without a result. */
  async abandon(interaction: Interaction): Promise<void> {
    await interaction.destroy();
  }

  /** The sign-in of the browser; undefined when there is none, or when it has ended. */
  async browserSession(
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<BrowserSession | undefined> {
    const session = await this.#provider.Session.get(this.#provider.createContext(request, response));
    const { accountId: subject } = session;
    const signInId = session.grantIdFor(webClientId);
    if (subject === undefined || signInId === undefined) return undefined;
    const { revalidator, times } = this.#parts;
    if (!(await revalidator.isStillAllowed(subject, times.accessTokenMs))) return undefined;
    const [signIn, identity] = await Promise.all([
      this.#parts.signIns.find(signInId),
      this.#parts.identities.find(subject),
    ]);
    return signIn && identity ? { subject, signInId } : undefined;
  }

  /** The URL at which a browser signs in for the pages. */
  get signInUrl(): string {
    const url = new URL(`${this.issuer}/auth`);
    url.searchParams.set('client_id', webClientId);
    url.searchParams.set('response_type', 'none');
    url.searchParams.set('scope', grantScope);
    url.searchParams.set('redirect_uri', webRedirectUri(this.#parts.publicUrl));
    return url.href;
  }

  /** The URL at which a browser begins the same sign-in from the start. */
  restartUrl(interaction: Interaction): string {
    if (interaction.deviceCode !== undefined) return `${this.issuer}/device`;
    const url = new URL(`${this.issuer}/auth`);
    for (const [name, value] of Object.entries(interaction.params)) {
      if (typeof value === 'string') url.searchParams.set(name, value);
    }
    return url.href;
  }

  /** Builds the provider anew when the keys have changed: it takes them only then. What it remembers is in the store. */
  #renew(): void {
    const { current } = this.#parts.keys;
    if (current.map(({ kid }) => kid).join() === this.#builtWith.map(({ kid }) => kid).join()) return;
    this.#builtWith = current;
    this.#provider = this.#build();
    this.#handle = this.#provider.callback();
  }

  #build(): Provider {
    return buildProvider(this.issuer, this.#parts, this.#module, {
      rate: this.#parts.rate,
      routeOf: (request) => this.#routes.get(request)!,
    });
  }
}
