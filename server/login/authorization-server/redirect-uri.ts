/**
 * Whether a URI is one that a program on the person's own machine listens at: a loopback address, a port, and a path of
 * plain letters (RFC 8252 §7.3). One strict spelling, so that no two readers of it can disagree.
 */
export function isLoopbackRedirect(uri: string): boolean {
  const [, port] =
    /^http:\/\/(?:127\.0\.0\.1|\[::1\]):([1-9][0-9]{0,4})\/[A-Za-z0-9_-]{0,128}$/.exec(uri) ?? [];
  return port !== undefined && Number(port) <= 65_535;
}
