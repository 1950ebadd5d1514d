/** The `iss` of tokens signed with the gateway's own key. */
export function ownIssuer(publicUrl: URL): string {
  return publicUrl.href;
}

/** The client id of the program `postern` at the gateway's authorization server. */
export const signInClientId = 'postern';

/** The `iss` of the tokens that sign-in issues; the authorization server is at that URL. */
export function signInIssuer(publicUrl: URL): string {
  return `${publicUrl.href}oauth`;
}

/**
 * The URL of the issuer's metadata (OpenID Connect Discovery 1.0 §4.1). Throws `TypeError` when the issuer is not a URL.
 */
export function discoveryUrl(issuer: string): URL {
  return new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
}
