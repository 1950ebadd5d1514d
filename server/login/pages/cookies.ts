import type { Configuration } from 'oidc-provider';

/** A cookie of ours: its name, and the path it is for. */
export interface CookieScope {
  readonly name: string;
  readonly path: string;
  readonly secure: boolean;
}

/**
 * Names a cookie so that the browser itself keeps others from setting it (RFC 6265bis section 4.1.3): `__Host-` where the
 * gateway has the whole host, `__Secure-` below a prefix. Without TLS, on this machine only, browsers would accept neither.
 */
export function cookieScope(publicUrl: URL, name: string, path = publicUrl.pathname): CookieScope {
  const secure = publicUrl.protocol === 'https:';
  if (!secure) return { name: `postern-${name}`, path, secure };
  return { name: `${path === '/' ? '__Host-' : '__Secure-'}postern-${name}`, path, secure };
}

/** The cookies of the authorization server. `Lax`: people come from a link in a terminal, or back from a provider. */
export function browserCookies(
  publicUrl: URL,
): Pick<NonNullable<Configuration['cookies']>, 'names' | 'long' | 'short'> {
  const session = cookieScope(publicUrl, 'session');
  const { secure } = session;
  const common = { httpOnly: true, sameSite: 'lax', secure, signed: true, overwrite: true } as const;
  // Each sign-in that is going on has these two under a path of its own.
  const short = (name: string): string => cookieScope(publicUrl, name, `${session.path}sign-in/`).name;
  return {
    names: { session: session.name, interaction: short('sign-in'), resume: short('resume') },
    long: { ...common, path: session.path },
    short: common,
  };
}
