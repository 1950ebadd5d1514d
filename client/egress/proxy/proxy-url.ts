import { isIPv6 } from 'node:net';
import { Secret } from '../../../protocol/secret.ts';
import { formatTarget } from '../../../protocol/target.ts';
import type { Target } from '../../../protocol/target.ts';
import { ClientError } from '../../errors/failure.ts';

/** The protocol of a proxy; as in curl, `socks4` and `socks5` resolve the name here, `socks4a` and `socks5h` at the proxy. */
export type ProxyScheme = 'http' | 'https' | 'socks4' | 'socks4a' | 'socks5' | 'socks5h';

/** A proxy, with the credentials for it. */
export interface Proxy {
  readonly scheme: ProxyScheme;
  readonly address: Target;
  readonly user?: string;
  readonly password?: Secret;
}

/** One element of a route: a proxy, or a direct connection. */
export type Hop = Proxy | 'direct';

const defaultPorts: Readonly<Record<ProxyScheme, number>> = {
  http: 80,
  https: 443,
  socks4: 1080,
  socks4a: 1080,
  socks5: 1080,
  socks5h: 1080,
};

/** The name of a hop in messages, without user and password; `parseProxy` can parse it again. */
export function hopName(hop: Hop): string {
  return hop === 'direct' ? 'direct' : `${hop.scheme}://${formatTarget(hop.address)}`;
}

/**
 * Parses `[scheme://][user[:password]@]host[:port]`; without a scheme it is an HTTP proxy. As in curl, all before the last
 * `@` is user and password, and a path is ignored. A URL parser would end the host name at the first `\`, `/`, `?` or `#` of
 * a password, and the name that it found would be looked up. Throws `CONFIG_INVALID` naming `source`: the text itself can
 * hold a password and is in no message.
 */
export function parseProxy(text: string, source: string): Proxy {
  const invalid = (what: string): ClientError => new ClientError('CONFIG_INVALID', `${source} ${what}`);
  const [prefix, named = 'http'] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text) ?? [''];
  const scheme = aliases[named.toLowerCase()] ?? named.toLowerCase();
  if (!isScheme(scheme))
    throw invalid(`names a ${scheme} proxy; supported are ${Object.keys(defaultPorts).join(', ')}`);
  const rest = text.slice(prefix.length);
  const at = rest.lastIndexOf('@');
  const address = parseAddress(rest.slice(at + 1), scheme);
  if (address === undefined)
    throw invalid(at === -1 ? invalidAddress : `${invalidAddress}; ${encodingAdvice}`);
  if (at === -1) return { scheme, address };
  const [name, ...more] = rest.slice(0, at).split(':');
  try {
    const [user, password] = [decodeURIComponent(name!), decodeURIComponent(more.join(':'))];
    if (user === '' && password === '') return { scheme, address };
    return { scheme, address, user, password: new Secret(password) };
  } catch {
    throw invalid('has a user name or password that is not percent-encoded; write % as %25');
  }
}

/** Desktops set ALL_PROXY to `socks://`. The proxy resolves names, so no DNS is needed here. */
const aliases: Readonly<Record<string, ProxyScheme>> = { socks: 'socks5h' };

const invalidAddress = 'has no valid host and port; write it like http://proxy.example:3128';
const encodingAdvice = 'in a user name or password, write @ as %40';

/** Parses `host[:port]`, with a path that is ignored; undefined: it is neither a name nor an address. */
function parseAddress(text: string, scheme: ProxyScheme): Target | undefined {
  const [, bracketed, named, port = ''] =
    /^(?:\[([0-9a-f:.]+)\]|([^\s:[\]\\/?#]+))(?::(\d{0,5}))?(?:[/?#].*)?$/i.exec(text) ?? [];
  const number = port === '' ? defaultPorts[scheme] : Number(port);
  if (number < 1 || number > 65_535) return undefined;
  if (bracketed !== undefined)
    return isIPv6(bracketed) ? { host: canonicalHost(`[${bracketed}]`), port: number } : undefined;
  const host = canonicalHost(named ?? '');
  return /^[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_.])?$/.test(host) ? { host, port: number } : undefined;
}

/** In lower case, with international names as the DNS has them (RFC 5890); empty: there is no such host. */
function canonicalHost(text: string): string {
  const url = `http://${text}`;
  return URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, '') : '';
}

function isScheme(text: string): text is ProxyScheme {
  return Object.hasOwn(defaultPorts, text);
}
