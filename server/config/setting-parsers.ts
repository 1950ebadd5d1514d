import { isIP } from 'node:net';
import { TunnelError } from '../../protocol/errors.ts';
import { isAddress, parseTarget, quote } from '../../protocol/target.ts';
import { isSecureUrl } from '../net/secure-url.ts';
import { parseCidr } from '../net/cidr.ts';
import { parsePattern } from '../../protocol/target-pattern.ts';
import type { TargetPattern } from '../../protocol/target-pattern.ts';
import { discoveryUrl } from './issuer-urls.ts';

// Each parses one setting, and throws an Error whose message is for the operator.

/** A TCP address or the path of a unix socket to listen on. */
type SocketAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** `address:port`, `[v6]:port`, `localhost:port`, or `unix:/path`. Port 0 is any free one. */
export function readListen(text: string): SocketAddress {
  if (text.startsWith('unix:/')) return { kind: 'unix', path: text.slice('unix:'.length) };
  const [, v6, v4, port] = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = v4 === 'localhost' ? '127.0.0.1' : (v6 ?? v4 ?? '');
  if (isIP(host) !== (v6 === undefined ? 4 : 6) || Number(port) > 65535) {
    throw new RangeError('write address:port, for example 127.0.0.1:8022 or [::]:8022, or unix:/path');
  }
  return { kind: 'tcp', host, port: Number(port) };
}

/** `unix:` and a path, which may be relative. */
export function readControl(text: string): string {
  const path = checkPlain(text.startsWith('unix:') ? text.slice('unix:'.length) : '');
  if (path === '') throw new RangeError('write a unix socket, for example unix:./postern-control.sock');
  return path;
}

/** The name of an identity provider. */
export function readProviderName(text: string): string {
  if (!/^[a-z0-9][a-z0-9-]{0,31}$/.test(text))
    throw new RangeError('use up to 32 lower case letters, digits and -');
  return text;
}

/** The URL of an identity provider whose metadata can be fetched safely. */
export function readIssuerUrl(text: string): string {
  readSecureUrl(text);
  return text;
}

/** The address of a target: a host, with or without a port; without one, the requested port is dialled. */
export function readTargetAddress(text: string): { readonly host: string; readonly port?: number } {
  const { host, port } = translateParseError(() => parseTarget(text));
  // The DNS has no such name (RFC 6761 §6.3), and the hosts file is never read.
  if (host === 'localhost')
    throw new RangeError('write 127.0.0.1 or [::1]: names are resolved through the DNS only');
  return namesPort(text) ? { host, port } : { host };
}

/** The name of a target; gives it in lower case. */
export function readTargetName(text: string): string {
  const { host } = translateParseError(() => parseTarget(text));
  if (namesPort(text) || isAddress(host))
    throw new RangeError('the name of a target must be a host name without a port');
  return host;
}

function namesPort(target: string): boolean {
  return target.slice(target.lastIndexOf(']') + 1).includes(':');
}

/** A target pattern of a rule. */
export function readPattern(text: string): TargetPattern {
  return translateParseError(() => parsePattern(text));
}

/** An address range, in its canonical spelling. */
export function readRange(text: string): string {
  return parseCidr(text).text;
}

/** A range of proxies whose forwarded headers are trusted. */
export function readProxyRange(text: string): string {
  const range = parseCidr(text);
  if (range.prefix === 0) throw new RangeError('this would trust forwarded addresses from every peer');
  return range.text;
}

/** A name server, `address` or `address:port`. */
export function readNameServer(text: string): string {
  const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([\d.]+))(?::([1-9]\d{0,4}))?$/.exec(text) ?? [];
  const host = v6 ?? v4 ?? text;
  if (isIP(host) === 0 || host.includes('%') || Number(port ?? 53) > 65535) {
    throw new RangeError('write the address of a name server, for example 10.0.0.53 or [fd00::53]:53');
  }
  return text;
}

/** The URL at which clients reach the gateway. */
export function readPublicUrl(text: string): URL {
  const url = readSecureUrl(text);
  if (!url.pathname.endsWith('/')) throw new RangeError('its path must end in /');
  if (url.search !== '' || url.hash !== '') throw new RangeError('it must not have a query or a fragment');
  return url;
}

/** A URL whose response no intermediary can change: https, or http on this machine. */
export function readSecureUrl(text: string): URL {
  if (!URL.canParse(text)) throw new RangeError('write a whole URL, for example https://gw.example/ssh/');
  const url = new URL(text);
  if (url.username !== '' || url.password !== '')
    throw new RangeError('a URL here must not have a user name or password');
  if (!isSecureUrl(url)) throw new RangeError('use https; http is allowed for this machine only');
  return url;
}

/** A web origin, as browsers send it. */
export function readOrigin(text: string): string {
  if (!URL.canParse(text) || new URL(text).origin !== text || !/^https?:/.test(text)) {
    throw new RangeError(
      'write an origin as browsers send it: scheme, host and port, for example https://gw.example',
    );
  }
  return text;
}

/** Checks that an issuer's metadata can be fetched safely. */
export function checkDiscoverable(issuer: string): void {
  if (!URL.canParse(issuer) || !isSecureUrl(discoveryUrl(issuer))) {
    throw new RangeError('keys can only be discovered from an https URL; set jwksUrl or jwksFile');
  }
}

/** Runs one of our parsers, and rethrows its error with the message that it meant for the operator. */
function translateParseError<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof TunnelError) throw new RangeError(error.message, { cause: error });
    throw error;
  }
}

/** Checks that text is printable, so that it can be compared and logged. */
export function checkPlain(text: string): string {
  if (/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(text))
    throw new RangeError(`${quote(text)} has unprintable characters`);
  return text;
}
