import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { RemoteAddress } from '../../http/client-address.ts';
import type { Store } from '../../store/store.ts';
import { consentPage, signInPage } from './sign-in-pages.ts';
import type { SignInPage } from './sign-in-pages.ts';
import { pageHeaders } from '../../web/page.ts';
import { verifyAccount } from '../accounts/accounts.ts';
import type {
  AuthorizationServer,
  Interaction,
  InteractionOutcome,
} from '../authorization-server/authorization-server.ts';
import { cookieScope } from './cookies.ts';
import { PendingLogins } from '../upstream/pending-logins.ts';
import type { FormTokens } from './forms.ts';
import { webClientId } from '../authorization-server/grants.ts';
import type { LoginResult } from '../authorization-server/grants.ts';
import type { Identities } from '../upstream/identities.ts';
import { ProviderRefusal } from '../upstream/identity-provider.ts';
import type { IdentityProvider } from '../upstream/identity-provider.ts';
import type { Revalidator } from '../upstream/revalidation.ts';
import { PageError } from './error-replies.ts';

export interface SignInParts {
  readonly publicUrl: URL;
  readonly store: Store;
  readonly server: AuthorizationServer;
  readonly identities: Identities;
  readonly rechecks: Revalidator;
  readonly forms: FormTokens;
  readonly remoteAddress: RemoteAddress;
  /** As the configuration has them now. */
  readonly settings: () => {
    readonly accounts: boolean;
    readonly sessionMs: number;
    readonly providers: readonly IdentityProvider[];
  };
  readonly onRefused: (refused: RefusedAttempt) => void;
}

/** An attempt with an account that was refused. The name is left out: people type passwords into that field. */
export interface RefusedAttempt {
  readonly client: string;
  /** It came too soon after others; its password was not looked at. */
  readonly tooSoon: boolean;
}

type Request = FastifyRequest<{ Params: { uid: string; provider?: string } }>;

/** The pages between a request to the authorization server and its answer: who are you, and may this program act for you? */
export function signInRoutes(app: FastifyInstance, parts: SignInParts): void {
  const { publicUrl, server, forms, settings } = parts;
  const departures = new PendingLogins(parts.store);
  const cookie = cookieScope(publicUrl, 'away', `${publicUrl.pathname}callback/`);

  /** The sign-in of this path, if it is also that of this browser. */
  async function interactionOf(request: Request, reply: FastifyReply): Promise<Interaction> {
    const interaction = await server.interaction(request.raw, reply.raw);
    if (interaction.uid !== request.params.uid) throw new PageError('expired', 400);
    return interaction;
  }

  async function proceed(
    request: Request,
    reply: FastifyReply,
    outcome: InteractionOutcome,
  ): Promise<FastifyReply> {
    return reply.redirect(await server.proceed(request.raw, reply.raw, outcome), 303);
  }

  /** Somebody has shown who they are. `agreed`: they did it on a page that said what for. */
  async function signedIn(
    request: Request,
    reply: FastifyReply,
    { interaction, login, agreed }: { interaction: Interaction; login: LoginResult; agreed: boolean },
  ): Promise<FastifyReply> {
    const before = interaction.session?.accountId;
    if (before !== undefined && before !== login.accountId) await server.signOutBrowser(interaction);
    return proceed(request, reply, { login, ...(agreed && { consent: {} }) });
  }

  function showSignIn(
    reply: FastifyReply,
    interaction: Interaction,
    again: Pick<SignInPage, 'problem' | 'name'> = {},
  ): FastifyReply {
    const { accounts, providers } = settings();
    const page: SignInPage = {
      publicUrl,
      action: actionOf(interaction),
      token: forms.of(interaction.uid),
      purpose: purposeOf(interaction),
      accounts,
      providers: providers.map(({ config: { name, title } }) => ({ name, title })),
      ...again,
    };
    return showPage(reply, signInPage(page), interaction);
  }

  function actionOf({ uid }: Interaction): string {
    return `${publicUrl.pathname}sign-in/${uid}`;
  }

  app.get('/sign-in/:uid', async (request: Request, reply) => {
    const interaction = await interactionOf(request, reply);
    if (interaction.prompt.name !== 'login') {
      const subject = interaction.session?.accountId ?? '';
      const page = { publicUrl, action: actionOf(interaction), token: forms.of(interaction.uid), subject };
      return showPage(reply, consentPage(page), interaction);
    }
    const { accounts, providers } = settings();
    const [only, ...others] = providers;
    if (only && !accounts && others.length === 0)
      return reply.redirect(`${actionOf(interaction)}/with/${only.config.name}`, 303);
    return showSignIn(reply, interaction);
  });

  app.post('/sign-in/:uid', async (request: Request, reply) => {
    const interaction = await interactionOf(request, reply);
    const form = forms.check(request, interaction.uid);
    if (!settings().accounts) throw new PageError('access_denied', 403);
    const name = form.get('name') ?? '';
    const address = parts.remoteAddress(request.raw);
    const result = await verifyAccount(parts.store, {
      name,
      password: form.get('password') ?? '',
      code: form.get('code')?.replaceAll(/\s/g, ''),
      address,
    });
    if (result.kind === 'refused') {
      const { retryAfterMs } = result;
      parts.onRefused({ client: address, tooSoon: retryAfterMs !== undefined });
      if (retryAfterMs !== undefined) void reply.header('Retry-After', Math.ceil(retryAfterMs / 1000));
      const problem =
        retryAfterMs === undefined
          ? ({ kind: 'invalid' } as const)
          : ({ kind: 'locked', retryAfterMs } as const);
      return showSignIn(reply.code(retryAfterMs === undefined ? 422 : 429), interaction, {
        problem,
        name: name.slice(0, 64),
      });
    }
    const login: LoginResult = {
      accountId: result.subject,
      amr: form.get('code') ? ['pwd', 'otp'] : ['pwd'],
    };
    return signedIn(request, reply, { interaction, login, agreed: true });
  });

  for (const [part, decide] of [
    ['allow', (login: LoginResult | undefined) => ({ ...(login && { login }), consent: {} })],
    ['refuse', () => ({ error: 'access_denied' as const })],
  ] as const) {
    app.post(`/sign-in/:uid/${part}`, async (request: Request, reply) => {
      const interaction = await interactionOf(request, reply);
      forms.check(request, interaction.uid);
      const login = interaction.lastSubmission?.login as LoginResult | undefined;
      return proceed(request, reply, decide(login && { ...login, told: true }));
    });
  }

  app.post('/sign-in/:uid/other', async (request: Request, reply) => {
    const interaction = await interactionOf(request, reply);
    forms.check(request, interaction.uid);
    await server.signOutBrowser(interaction);
    await server.abandon(interaction);
    return reply.redirect(server.restartUrl(interaction), 303);
  });

  app.get('/sign-in/:uid/with/:provider', async (request: Request, reply) => {
    const interaction = await interactionOf(request, reply);
    const provider = providerOf(settings().providers, request.params.provider);
    const { url, departure } = await provider.beginLogin();
    const value = await departures.start(departure, provider.config.name, interaction.uid);
    return reply
      .header('Set-Cookie', setCookie(cookie, value, 900))
      .header('Referrer-Policy', 'no-referrer')
      .redirect(url.href, 303);
  });

  app.get('/callback/:provider', async (request: Request, reply) => {
    const provider = providerOf(settings().providers, request.params.provider);
    // The host that the request names is nobody's word; the path is the route's.
    const url = new URL(`callback/${provider.config.name}`, publicUrl);
    url.search = request.raw.url?.split('?')[1] ?? '';
    const state = url.searchParams.get('state') ?? '';
    const away = await departures.consume(state, provider.config.name, readCookie(request, cookie.name));
    if (!away) throw new PageError('expired', 400);
    const arrival = await provider.completeLogin(url, away);
    const expiresAt = Date.now() + settings().sessionMs * 2;
    if (!(await parts.identities.keep(arrival.identity, expiresAt)))
      throw new ProviderRefusal(
        'subject_unusable',
        `${arrival.identity.subject} is an account of the gateway`,
      );
    await parts.rechecks.keep(arrival, expiresAt);
    await departures.complete(away.uid, { identity: arrival.identity, origin: arrival.origin });
    return reply
      .header('Set-Cookie', setCookie(cookie, '', 0))
      .redirect(`${publicUrl.pathname}sign-in/${away.uid}/continue`, 303);
  });

  app.get('/sign-in/:uid/continue', async (request: Request, reply) => {
    const interaction = await interactionOf(request, reply);
    const arrival = await departures.takeResult(interaction.uid);
    if (!arrival) throw new PageError('expired', 400);
    const login: LoginResult = { accountId: arrival.identity.subject, amr: ['ext'], origin: arrival.origin };
    // A provider may sign people in without a word: what for is asked on the next page.
    return signedIn(request, reply, { interaction, login, agreed: false });
  });
}

function showPage(reply: FastifyReply, page: string, interaction: Interaction): FastifyReply {
  return reply
    .headers(pageHeaders(formTargets(interaction)))
    .type('text/html; charset=utf-8')
    .send(page);
}

/** A form's answer may lead on to the program that asked; browsers hold `form-action` against redirects too. */
function formTargets({ params }: Interaction): readonly string[] {
  const uri = params['redirect_uri'];
  if (typeof uri !== 'string' || params['client_id'] === webClientId) return ["'self'"];
  const { origin, hostname } = new URL(uri);
  // CSP has no way to write an IPv6 address (CSP Level 3 §2.3.1, host-source).
  return ["'self'", hostname.startsWith('[') ? 'http:' : origin];
}

function purposeOf({ params, deviceCode }: Interaction): SignInPage['purpose'] {
  if (deviceCode !== undefined) return 'device';
  return params['client_id'] === webClientId ? 'pages' : 'program';
}

function providerOf(providers: readonly IdentityProvider[], name: string | undefined): IdentityProvider {
  const provider = providers.find(({ config }) => config.name === name);
  if (!provider) throw new PageError('not_found', 404);
  return provider;
}

function setCookie(
  { name, path, secure }: ReturnType<typeof cookieScope>,
  value: string,
  seconds: number,
): string {
  return `${name}=${value}; Path=${path}; Max-Age=${seconds}; HttpOnly; SameSite=Lax${secure ? '; Secure' : ''}`;
}

function readCookie(request: FastifyRequest, name: string): string | undefined {
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim());
  return pairs.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1);
}
