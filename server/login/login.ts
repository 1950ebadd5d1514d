import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ownAudience } from '../auth/gateway-key.ts';
import type { Revocations } from '../auth/revocations.ts';
import type { Config } from '../config/config.ts';
import { readRequestTarget } from '../http/request-path.ts';
import type { Counter } from '../policy/counter.ts';
import type { Store } from '../store/store.ts';
import { accessRoutes } from './pages/access-routes.ts';
import type { AccessParts } from './pages/access-routes.ts';
import { AuthorizationServer } from './authorization-server/authorization-server.ts';
import { RateLimit } from './authorization-server/rate-limit.ts';
import { isInteractionId, oauthRoutes } from './authorization-server/routes.ts';
import { FormTokens, readForms } from './pages/forms.ts';
import { Identities } from './upstream/identities.ts';
import { logoutRoutes } from './pages/logout-routes.ts';
import { IdentityProvider } from './upstream/identity-provider.ts';
import { Revalidator } from './upstream/revalidation.ts';
import { registerErrorPages } from './pages/error-replies.ts';
import { signInRoutes } from './pages/sign-in-routes.ts';
import type { RefusedAttempt } from './pages/sign-in-context.ts';
import { SignIns } from './sign-ins.ts';
import type { SignIn } from './sign-ins.ts';
import type { SigningKeys } from './authorization-server/signing-keys.ts';
import { signInIssuer } from '../config/issuer-urls.ts';

export interface LoginParts extends Pick<
  AccessParts,
  'sessions' | 'peers' | 'tickets' | 'onTicket' | 'remoteAddress'
> {
  readonly store: Store;
  readonly revocations: Revocations;
  readonly keys: SigningKeys;
  /** Counts the requests to other processes too. */
  readonly counter?: Counter | undefined;
  /** As it is now; `publicUrl` and the times and flows of `signIn` stay as they are at first. */
  readonly config: () => Config;
  readonly onError: (error: unknown) => void;
  readonly onSignIn: (signIn: SignIn) => void;
  /** Called for each wrong password, and for each attempt that came too soon. */
  readonly onRefused: (refused: RefusedAttempt) => void;
}

/** Signing in with a browser: the authorization server, its pages, and the page of one's own access. */
export interface Login {
  /** `app` must be mounted at the prefix. */
  routes(app: FastifyInstance): void;
  /** When a sign-in ends, in milliseconds since the epoch; undefined for one that has ended. */
  signInEnd(signInId: string): Promise<number | undefined>;
  close(): void;
}

/** For one network in a minute: more than the people behind one address need, less than fills a disk. */
const maxRequests = 120;

/** A key lives for weeks; its successor can be an hour late. */
const refreshMs = 3_600_000;

/** Opens the sign-in of a gateway. The store and the keys stay their owner's. */
export async function openLogin(parts: LoginParts): Promise<Login> {
  const { store, keys, config, onError } = parts;
  const { publicUrl, signIn } = config();
  const signIns = new SignIns(store, parts.revocations, { issuer: signInIssuer(publicUrl) });
  const identities = new Identities(store, () => config().signIn.accounts);
  const providers = providersOf(publicUrl, config);
  const revalidator = new Revalidator({ store, identities, signIns, providers, onError });
  const rate = new RateLimit(maxRequests, { ...(parts.counter && { shared: parts.counter }) });
  const common = { ...parts, publicUrl, signIns, identities, revalidator, rate };
  const server = await AuthorizationServer.open({
    ...common,
    times: signIn,
    deviceFlow: signIn.deviceFlow,
    audience: ownAudience,
  });
  const forms = new FormTokens(publicUrl, () => keys.secrets);
  const settings = () => ({ ...config().signIn, providers: providers() });
  const refreshing = setInterval(() => void keys.refresh().catch(onError), refreshMs).unref();

  return {
    routes(app) {
      app.register(async (oauth) => {
        // The authorization server reads the bodies itself.
        oauth.removeAllContentTypeParsers();
        oauth.addContentTypeParser('*', (_request, _payload, done) => done(null));
        for (const route of oauthRoutes(signIn.deviceFlow)) {
          oauth.route({
            method: route.method,
            url: `/oauth${route.path}`,
            async handler(request: FastifyRequest<{ Params: { uid?: string } }>, reply) {
              const { uid } = request.params;
              if (uid !== undefined && !isInteractionId(uid)) return reply.callNotFound();
              const { query } = readRequestTarget(request.raw.url!);
              reply.hijack();
              return server.answer(request.raw, reply.raw, { route, uid, query });
            },
          });
        }
      });
      app.register(async (pages) => {
        readForms(pages);
        registerErrorPages(pages, publicUrl, onError);
        signInRoutes(pages, { ...common, server, forms, settings });
        accessRoutes(pages, { ...common, server, forms, rules: () => config().rules });
        logoutRoutes(pages, { ...common, providers: () => config().signIn.providers });
      });
    },
    signInEnd: async (id) => (await signIns.find(id))?.expiresAt,
    close: () => clearInterval(refreshing),
  };
}

/** The providers of the configuration, each made once for as long as its settings are the same, over reloads too. */
function providersOf(publicUrl: URL, config: () => Config): () => readonly IdentityProvider[] {
  let made = new Map<string, IdentityProvider>();
  return () => {
    const wanted = config().signIn.providers.map((settings) => {
      const name = JSON.stringify(settings, (_key, value: unknown) =>
        value instanceof Map ? [...(value as ReadonlyMap<unknown, unknown>)] : value,
      );
      const url = (): URL => new URL(`callback/${settings.name}`, publicUrl);
      return [name, made.get(name) ?? new IdentityProvider(settings, url())] as const;
    });
    made = new Map(wanted);
    return wanted.map(([, provider]) => provider);
  };
}
