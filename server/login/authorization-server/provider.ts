import type { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { KoaContextWithOIDC, default as Provider } from 'oidc-provider';
import { errorPage, explainError } from '../../web/error-page.ts';
import { pageHeaders } from '../../web/page.ts';
import { storeAdapter } from './store-adapter.ts';
import { DeviceCodes } from './device-codes.ts';
import { SignInGrants } from './grants.ts';
import { allowLoopbackRedirects } from './clients.ts';
import { providerConfiguration } from './provider-config.ts';
import type { AuthorizationServerParts } from './provider-config.ts';
import type { OidcProvider } from './import-oidc-provider.ts';
import type { RateLimit } from './rate-limit.ts';
import type { OAuthRoute } from './routes.ts';
import { isFromElsewhere } from '../pages/forms.ts';

/** The limit on requests, and the route of each, which is decided before oidc-provider gets it. */
export interface RequestGate {
  readonly rate: Pick<RateLimit, 'admit'>;
  readonly routeOf: (request: IncomingMessage) => OAuthRoute;
}

/** Makes the oidc-provider that answers requests to the authorization server, with its middleware. */
export function buildProvider(
  issuer: string,
  parts: AuthorizationServerParts,
  module: OidcProvider,
  { rate, routeOf }: RequestGate,
): Provider {
  const { store, signIns, publicUrl, onError } = parts;
  const grants = new SignInGrants(parts);
  const codes = new DeviceCodes(parts);
  const adapter = storeAdapter(store, {
    onGrantEnded: (id) => signIns.onEnded(id, reasonOf(module.default.ctx)),
    onReplay: () => new module.errors.InvalidGrant('it has already been used'),
    onTooLong: () => new module.errors.InvalidRequest('the parameters are too long'),
    lookUpCode: (find) => codes.lookUp(module.default.ctx!, find),
  });
  const provider = new module.default(
    issuer,
    providerConfiguration(parts, {
      grants,
      codes,
      adapter,
      module,
      renderError: (context, out) => showError(context, out, publicUrl),
    }),
  );
  pinIssuerOrigin(provider, new URL(issuer));
  allowLoopbackRedirects(provider);
  provider.use(async (context, next) => {
    const { isCounted, isForm, needsSession, hasCode } = routeOf(context.req);
    const refuse = (status: number, error: string): void => {
      context.status = status;
      showError(context as never, { error }, publicUrl);
    };
    const waitMs = isCounted ? rate.admit(parts.remoteAddress(context.req)) : 0;
    if (waitMs > 0) {
      context.set('Retry-After', String(Math.ceil(waitMs / 1000)));
      return refuse(429, 'too_many_requests');
    }
    // oidc-provider fails when it wants to write a message into a session that does not exist.
    if (needsSession && !(await hasSession(provider, context.req, context.res)))
      return refuse(400, 'expired');
    if (isForm && isFromElsewhere(context.req.headers, publicUrl.origin)) return refuse(403, 'form_stale');
    if (hasCode && (await codes.refuseLocked(context as never))) return;
    await next();
    if (context.status === 404 && context.body == null)
      showError(context as never, { error: 'not_found' }, publicUrl);
    context.set('X-Content-Type-Options', 'nosniff');
    delete (context.body as { verification_uri_complete?: string } | null)?.verification_uri_complete;
  });
  (provider as EventEmitter).on('error', onError);
  provider.on('server_error', (_context, error) => onError(error));
  return provider;
}

/** Whether the store has the session that the browser's cookie names. */
async function hasSession(
  provider: Provider,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<boolean> {
  const session = await provider.Session.get(provider.createContext(request, response));
  return typeof session.exp === 'number';
}

/** The host and protocol that a request names prove nothing: those of the issuer replace them. */
function pinIssuerOrigin(provider: Provider, issuer: URL): void {
  const known = { protocol: issuer.protocol.slice(0, -1), host: issuer.host, ips: [] };
  for (const [name, value] of Object.entries(known)) {
    Object.defineProperty(provider.request, name, { get: () => value });
  }
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

/** The reason of a grant's end, when oidc-provider itself has ended it. */
function reasonOf(context: KoaContextWithOIDC | undefined): string {
  if (context?.oidc.route === 'revocation') return 'signed out';
  return context?.oidc.route === 'token' ? 'a code or a refresh token was used twice' : 'ended';
}
