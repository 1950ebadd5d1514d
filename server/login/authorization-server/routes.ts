/** A request that the authorization server answers. Every other one below its path is answered before it, with a 404. */
export interface OAuthRoute {
  /** `GET` stands for `HEAD` too. */
  readonly method: 'GET' | 'POST';
  /** Below the issuer; `:uid` is the id of an interaction. */
  readonly path: `/${string}`;
  /** It costs a write to the disk, for a caller that has not signed in. */
  readonly isCounted?: boolean;
  /** Its query is part of the request. All others read their parameters from the body, or have none. */
  readonly hasQuery?: boolean;
  /** A form of the gateway's own pages. */
  readonly isForm?: boolean;
  /** A form with the code of a device, which can be a guess. */
  readonly hasCode?: boolean;
  /** Only a browser that the gateway has shown a page to sends it. */
  readonly needsSession?: boolean;
}

const always: readonly OAuthRoute[] = [
  { method: 'GET', path: '/.well-known/openid-configuration' },
  { method: 'GET', path: '/.well-known/oauth-authorization-server' },
  { method: 'GET', path: '/jwks' },
  { method: 'GET', path: '/auth', isCounted: true, hasQuery: true },
  { method: 'GET', path: '/auth/:uid' },
  { method: 'POST', path: '/token' },
  { method: 'POST', path: '/token/revocation' },
  { method: 'POST', path: '/session/end/confirm', isForm: true, needsSession: true },
];

/**
 * The page for codes takes none from a link: people would approve a code that they never saw (RFC 8628 section 5.4). So its
 * requests have no query.
 */
const deviceFlow: readonly OAuthRoute[] = [
  { method: 'POST', path: '/device/auth', isCounted: true },
  { method: 'GET', path: '/device', isCounted: true },
  { method: 'POST', path: '/device', isForm: true, hasCode: true, needsSession: true },
  { method: 'GET', path: '/device/:uid', needsSession: true },
];

/**
 * The routes of the authorization server, in their only spelling. oidc-provider's own router folds case and a slash at the
 * end; it gets nothing but paths that are built from this table.
 */
export function oauthRoutes(hasDeviceFlow: boolean): readonly OAuthRoute[] {
  return hasDeviceFlow ? [...always, ...deviceFlow] : always;
}

/** The target by which oidc-provider gets a request of a route. `query` is without its question mark. */
export function targetOf(
  { path, hasQuery = false }: OAuthRoute,
  { uid = '', query }: { readonly uid?: string | undefined; readonly query: string },
): string {
  const filled = path.replace(':uid', uid);
  return hasQuery && query !== '' ? `${filled}?${query}` : filled;
}

/** Whether a text has the form of an interaction's id, which is part of a path. */
export function isInteractionId(text: string): boolean {
  return /^[\w-]{20,64}$/.test(text);
}
