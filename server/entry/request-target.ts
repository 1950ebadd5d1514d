import { TunnelError } from '../../protocol/errors.ts';

/**
 * The target in a path below `prefix`, as `host:port` for the pipeline to parse, or undefined when the path is not
 * `{prefix}{host}/{port}` with or without a slash at the end. Of percent-encoding only the colons of an IPv6 address
 * are decoded (RFC 9298 §2 writes them so): any other `%` stays, and is refused as part of a host.
 */
export function targetInPath(url: string | undefined, prefix: string): string | undefined {
  if (url === undefined || !url.startsWith(prefix)) return undefined;
  const [, host, port] = /^([^/?#]+)\/([^/?#]+)\/?$/.exec(url.slice(prefix.length)) ?? [];
  if (host === undefined || port === undefined) return undefined;
  return bracketed(host.replaceAll(/%3a/gi, ':'), port);
}

/**
 * The target that a query names, as `host:port` for the pipeline to parse. Other parameters that clients send (`project`,
 * `zone`, `dstUsername` …) mean nothing here. Throws `REQUEST_INVALID` for a parameter that is given twice.
 */
export function targetInQuery(query: URLSearchParams): string {
  const host = single(query, 'host') ?? single(query, 'instance') ?? '';
  return bracketed(host, single(query, 'port') ?? '22');
}

/** The value of a query parameter. Throws `REQUEST_INVALID` when it is given twice. */
export function single(query: URLSearchParams, name: string): string | undefined {
  const values = query.getAll(name);
  if (values.length > 1) throw new TunnelError('REQUEST_INVALID', `${name} is given twice`);
  return values[0];
}

/** An IPv6 address gets the brackets that a port needs. */
function bracketed(host: string, port: string): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;
}
