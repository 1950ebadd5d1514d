import { isIP } from 'node:net';
import { Secret } from '../../../protocol/secret.ts';
import { formatTarget } from '../../../protocol/target.ts';
import type { Target } from '../../../protocol/target.ts';
import { ClientError } from '../../errors/failure.ts';

/** How a proxy is spoken to; as in curl, `socks4` and `socks5` want an address, which is looked up here. */
export type ProxyScheme = 'http' | 'https' | 'socks4' | 'socks4a' | 'socks5' | 'socks5h';

/** A proxy, and who we are to it. */
export interface Proxy {
  readonly scheme: ProxyScheme;
  readonly address: Target;
  readonly user?: string;
  readonly password?: Secret;
}

/** One thing to try: a proxy, or no proxy. */
export type Hop = Proxy | 'direct';

const defaultPorts: Readonly<Record<ProxyScheme, number>> = {
  http: 80,
  https: 443,
  socks4: 1080,
  socks4a: 1080,
  socks5: 1080,
  socks5h: 1080,
};

/** What a message calls it, without user and password; `parseProxy` reads it again. */
export function hopName(hop: Hop): string {
  return hop === 'direct' ? 'direct' : `${hop.scheme}://${formatTarget(hop.address)}`;
}

/**
 * Reads `[scheme://][user[:password]@]host[:port]`; without a scheme it is an HTTP proxy. Throws `CONFIG_INVALID`
 * naming `source`: the text itself may hold a password and is in no message.
 */
export function parseProxy(text: string, source: string): Proxy {
  const invalid = (what: string): ClientError => new ClientError('CONFIG_INVALID', `${source} ${what}`);
  const whole = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(whole)) throw invalid('is not a URL like http://proxy.example:3128');
  const url = new URL(whole);
  const named = url.protocol.slice(0, -1);
  // What desktops put into ALL_PROXY. A name that is looked up there needs no DNS here.
  const scheme = named === 'socks' ? 'socks5h' : named;
  if (!isScheme(scheme))
    throw invalid(`names a ${named} proxy; known are ${Object.keys(defaultPorts).join(', ')}`);
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  // The URL parser reads hosts of http and https only.
  if (isIP(host) === 0 && !/^[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_.])?$/.test(host))
    throw invalid('names no host');
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
