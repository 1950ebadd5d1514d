import type { Configuration, default as Provider } from 'oidc-provider';
import { signInClientId } from '../../config/issuer-urls.ts';
import { webClientId } from './grants.ts';

/** The registered clients: the program `postern`, and the gateway's own pages. */
export function clients(publicUrl: URL, deviceFlow: boolean): Configuration['clients'] {
  return [
    {
      client_id: signInClientId,
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

/** The redirect URI of the pages. */
export function webRedirectUri(publicUrl: URL): string {
  return new URL('access/signed-in', publicUrl).href;
}

/** Lets the client program listen at any port of the person's own machine (RFC 8252 section 7.3). */
export function allowLoopbackRedirects(provider: Provider): void {
  const { prototype } = provider.Client as unknown as { prototype: object };
  const allowed = Reflect.get(prototype, 'redirectUriAllowed') as (this: unknown, uri: string) => boolean;
  Reflect.set(prototype, 'redirectUriAllowed', function isAllowed(this: { clientId: string }, uri: string) {
    return this.clientId === signInClientId ? isLoopbackRedirect(uri) : allowed.call(this, uri);
  });
}

/**
 * Whether a program on the person's own machine can listen at the URI: a loopback address, a port, and a path of
 * plain letters (RFC 8252 section 7.3). One strict spelling, so that no two readers of it can disagree.
 */
export function isLoopbackRedirect(uri: string): boolean {
  const [, port] =
    /^http:\/\/(?:127\.0\.0\.1|\[::1\]):([1-9][0-9]{0,4})\/[A-Za-z0-9_-]{0,128}$/.exec(uri) ?? [];
  return port !== undefined && Number(port) <= 65_535;
}
