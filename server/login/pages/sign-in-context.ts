import type { FastifyReply, FastifyRequest } from 'fastify';
import type { RemoteAddress } from '../../http/client-address.ts';
import type { Store } from '../../store/store.ts';
import { pageHeaders } from '../../web/page.ts';
import type {
  AuthorizationServer,
  Interaction,
  InteractionOutcome,
} from '../authorization-server/authorization-server.ts';
import type { RateLimit } from '../authorization-server/rate-limit.ts';
import { webClientId } from '../authorization-server/grants.ts';
import type { LoginResult } from '../authorization-server/grants.ts';
import type { Identities } from '../upstream/identities.ts';
import type { IdentityProvider } from '../upstream/identity-provider.ts';
import type { Revalidator } from '../upstream/revalidation.ts';
import { PageError } from './error-replies.ts';
import type { Form, FormTokens } from './forms.ts';

export interface SignInParts {
  readonly publicUrl: URL;
  readonly store: Store;
  readonly server: AuthorizationServer;
  readonly identities: Identities;
  readonly revalidator: Revalidator;
  readonly forms: FormTokens;
  readonly remoteAddress: RemoteAddress;
  /** Limits the requests that cost a write to the disk. */
  readonly rate: Pick<RateLimit, 'admit'>;
  /** As the configuration has them now. */
  readonly settings: () => LoginMethods;
  readonly onRefused: (refused: RefusedAttempt) => void;
}

/** How people can sign in, and for how long. */
export interface LoginMethods {
  readonly accounts: boolean;
  readonly sessionMs: number;
  readonly providers: readonly IdentityProvider[];
}

/** An attempt with an account that was refused. The name is left out: people type passwords into that field. */
export interface RefusedAttempt {
  readonly client: string;
  /** It came too soon after others; its password was not checked. */
  readonly tooSoon: boolean;
}

export type InteractionRequest = FastifyRequest<{ Params: { uid: string; provider?: string } }>;

/** What the routes of a sign-in have in common. */
export class SignInContext {
  readonly parts: SignInParts;

  constructor(parts: SignInParts) {
    this.parts = parts;
  }

  /** The sign-in of the request's path, which must also be that of its browser. Throws `PageError`. */
  async interaction(request: InteractionRequest, reply: FastifyReply): Promise<Interaction> {
    const interaction = await this.parts.server.interaction(request.raw, reply.raw);
    if (interaction.uid !== request.params.uid) throw new PageError('expired', 400);
    return interaction;
  }

  /** The same, with the form that was sent from its page. Throws `PageError`, `FormRefusal`. */
  async submitted(
    request: InteractionRequest,
    reply: FastifyReply,
  ): Promise<{ readonly interaction: Interaction; readonly form: Form }> {
    const interaction = await this.interaction(request, reply);
    return { interaction, form: this.parts.forms.check(request, interaction.uid) };
  }

  /** The path of a sign-in's page; its parts are below it. */
  pathOf({ uid }: Interaction): string {
    return `${this.parts.publicUrl.pathname}sign-in/${uid}`;
  }

  tokenFor({ uid }: Interaction): string {
    return this.parts.forms.of(uid);
  }

  /** Throws `PageError` when the configuration has no provider of that name. */
  provider(name: string | undefined): IdentityProvider {
    const provider = this.parts.settings().providers.find(({ config }) => config.name === name);
    if (!provider) throw new PageError('not_found', 404);
    return provider;
  }

  /** Reports the outcome to the authorization server, and sends the browser on. */
  async proceed(
    request: InteractionRequest,
    reply: FastifyReply,
    outcome: InteractionOutcome,
  ): Promise<FastifyReply> {
    return reply.redirect(await this.parts.server.proceed(request.raw, reply.raw, outcome), 303);
  }

  /** A person has proved who they are. `agreed`: on a page that named the program that they sign in for. */
  async signedIn(
    request: InteractionRequest,
    reply: FastifyReply,
    { interaction, login, agreed }: { interaction: Interaction; login: LoginResult; agreed: boolean },
  ): Promise<FastifyReply> {
    const before = interaction.session?.accountId;
    if (before !== undefined && before !== login.accountId)
      await this.parts.server.signOutBrowser(interaction);
    return this.proceed(request, reply, { login, ...(agreed && { consent: {} }) });
  }

  show(reply: FastifyReply, page: string, interaction: Interaction): FastifyReply {
    return reply
      .headers(pageHeaders(formTargets(interaction)))
      .type('text/html; charset=utf-8')
      .send(page);
  }
}

/** The answer to a form can lead on to the program that asked; browsers apply `form-action` to redirects too. */
function formTargets({ params }: Interaction): readonly string[] {
  const uri = params['redirect_uri'];
  if (typeof uri !== 'string' || params['client_id'] === webClientId) return ["'self'"];
  const { origin, hostname } = new URL(uri);
  // CSP cannot express an IPv6 address (CSP Level 3 section 2.3.1, host-source).
  return ["'self'", hostname.startsWith('[') ? 'http:' : origin];
}
