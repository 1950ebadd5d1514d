/**
 * The target in a path below `prefix`, as `host:port` for the pipeline to parse, or undefined when the path is not
 * `{prefix}{host}/{port}` with or without a slash at the end. Of percent-encoding only the colons of an IPv6 address
 * are known (RFC 9298 §2 writes them so): any other `%` stays, and is refused as part of a host.
 */
export function targetInPath(url: string | undefined, prefix: string): string | undefined {
  if (url === undefined || !url.startsWith(prefix)) return undefined;
  const [, host, port] = /^([^/?#]+)\/([^/?#]+)\/?$/.exec(url.slice(prefix.length)) ?? [];
  if (host === undefined || port === undefined) return undefined;
  const decoded = host.replaceAll(/%3a/gi, ':');
  return decoded.includes(':') && !decoded.startsWith('[') ? `[${decoded}]:${port}` : `${decoded}:${port}`;
}
