import { TunnelError } from '../../protocol/errors.ts';
import { sshPort } from '../../protocol/target.ts';

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
  const host = oneOf(query, ['host', 'instance']) ?? '';
  return bracketed(host, single(query, 'port') ?? String(sshPort));
}

/** The value of a query parameter. Throws `REQUEST_INVALID` when it is given twice. */
export function single(query: URLSearchParams, name: string): string | undefined {
  return oneOf(query, [name]);
}

/**
 * The value of a query parameter with several names. Throws `REQUEST_INVALID` when it is given twice, under one of them or
 * two, in any case: two readers of such a query could each take another value.
 */
function oneOf(query: URLSearchParams, names: readonly string[]): string | undefined {
  const given = [...query].filter(([name]) => names.includes(name.toLowerCase()));
  if (given.length > 1) throw new TunnelError('REQUEST_INVALID', `${names.join(' or ')} is given twice`);
  const [[name, value] = ['', undefined]] = given;
  return names.includes(name) ? value : undefined;
}

/** An IPv6 address gets the brackets that a port needs. */
function bracketed(host: string, port: string): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`;
}
