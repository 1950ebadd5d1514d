import type { EventEmitter } from 'node:events';
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
import { RateLimit } from './rate-limit.ts';

/** For one network in a minute: more than the people behind one address need, less than fills a disk. */
const maxRequests = 120;

/** Makes the oidc-provider that answers requests to the authorization server, with its middleware. */
export function buildProvider(
  issuer: string,
  parts: AuthorizationServerParts,
  module: OidcProvider,
): Provider {
  const { store, signIns, publicUrl, deviceFlow, onError } = parts;
  const grants = new SignInGrants(parts);
  const codes = new DeviceCodes(parts);
  const adapter = storeAdapter(store, {
    onGrantEnded: (id) => signIns.onEnded(id, reasonOf(module.default.ctx)),
    onReplay: () => new module.errors.InvalidGrant('it has already been used'),
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
  const rate = new RateLimit(maxRequests, { ...(parts.counter && { shared: parts.counter }) });
  provider.use(async (context, next) => {
    const waitMs = isRemembered(context) ? rate.admit(parts.remoteAddress(context.req)) : 0;
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
  (provider as EventEmitter).on('error', onError);
  provider.on('server_error', (_context, error) => onError(error));
  return provider;
}

/** Each of these requests is a write to the disk, for a caller that has not signed in. */
function isRemembered({ method, path }: { method: string; path: string }): boolean {
  return method === 'GET' ? path === '/auth' || path === '/device' : path === '/device/auth';
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
