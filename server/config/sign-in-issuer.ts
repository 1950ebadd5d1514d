/** `iss` of the tokens that people get by signing in; the authorization server is at that URL. */
export function signInIssuer(publicUrl: URL): string {
  return `${publicUrl.href}oauth`;
}
