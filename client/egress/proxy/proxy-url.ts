import { isIP } from 'node:net';
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
 * Parses `[scheme://][user[:password]@]host[:port]`; without a scheme it is an HTTP proxy. Throws `CONFIG_INVALID`
 * naming `source`: the text itself can hold a password and is in no message.
 */
export function parseProxy(text: string, source: string): Proxy {
  const invalid = (what: string): ClientError => new ClientError('CONFIG_INVALID', `${source} ${what}`);
  const whole = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(whole)) throw invalid('is not a URL like http://proxy.example:3128');
  const url = new URL(whole);
  const named = url.protocol.slice(0, -1);
  // Desktops set ALL_PROXY to `socks://`. The proxy resolves names, so no DNS is needed here.
  const scheme = named === 'socks' ? 'socks5h' : named;
  if (!isScheme(scheme))
    throw invalid(`names a ${named} proxy; supported are ${Object.keys(defaultPorts).join(', ')}`);
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  // The URL parser validates hosts of http and https only.
  if (isIP(host) === 0 && !/^[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_.])?$/.test(host))
    throw invalid('has no valid host');
  const address = { host, port: Number(url.port || defaultPorts[scheme]) };
  try {
    const [user, password] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
    if (user === '' && password === '') return { scheme, address };
    return { scheme, address, user, password: new Secret(password) };
  } catch {
    throw invalid('has a user name or password that is not percent-encoded; write % as %25');
  }
}

function isScheme(text: string): text is ProxyScheme {
  return Object.hasOwn(defaultPorts, text);
}
