import { Secret } from '../../protocol/secret.ts';
import type { Target } from '../../protocol/target.ts';
import { Failure } from '../failure.ts';
import { direct } from './direct.ts';
import type { Egress, ProxySettings } from './egress.ts';
import { httpProxy } from './http-proxy.ts';
import type { HttpProxy } from './http-proxy.ts';
import { isExcepted } from './no-proxy.ts';
import { secureEgress } from './tls.ts';

/** Where a connection has to go and under which circumstances. */
export interface Way {
  readonly gateway: Target;
  /** Whether the gateway speaks TLS. One that does not is on this machine, and no proxy leads there. */
  readonly tls: boolean;
  readonly proxy: ProxySettings;
  readonly caFile?: string;
}

/** The way out that the environment names. Throws `CONFIG_INVALID` for a proxy that cannot be used. */
export function chooseEgress({ gateway, tls, proxy, caFile }: Way): Egress {
  if (!tls) return direct;
  const named = proxyFor(gateway, proxy);
  return secureEgress(named === undefined ? direct : httpProxy(named, caFile, proxy.signIn), caFile);
}

/** The proxy that leads to a TLS gateway, if any: `HTTPS_PROXY`, else `ALL_PROXY`, unless `NO_PROXY` names it. */
export function proxyFor(gateway: Target, proxy: ProxySettings): HttpProxy | undefined {
  const text = (proxy.https ?? proxy.all ?? '').trim();
  if (text === '' || isExcepted(proxy.except ?? '', gateway)) return undefined;
  return parseProxy(text, proxy.https === undefined ? 'ALL_PROXY' : 'HTTPS_PROXY');
}

/** Reads `[http[s]://][user[:password]@]host[:port]`. The text may hold a password and is in no message. */
function parseProxy(text: string, variable: string): HttpProxy {
  const whole = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(whole)) throw invalid(variable, 'is not a URL like http://proxy.example:3128');
  const url = new URL(whole);
  const { protocol, hostname } = url;
  if (protocol !== 'http:' && protocol !== 'https:') {
    throw invalid(variable, `names a ${protocol.slice(0, -1)} proxy; only http and https proxies are known`);
  }
  const host = hostname.replace(/^\[|\]$/g, '');
  const address = { host, port: Number(url.port || (protocol === 'https:' ? 443 : 80)) };
  return { address, tls: protocol === 'https:', ...userOf(url, variable) };
}

function userOf({ username, password }: URL, variable: string): Pick<HttpProxy, 'user' | 'password'> {
  try {
    return {
      ...(username === '' ? {} : { user: decodeURIComponent(username) }),
      ...(password === '' ? {} : { password: new Secret(decodeURIComponent(password)) }),
    };
  } catch {
    throw invalid(variable, 'has a user name or password that is not percent-encoded; write % as %25');
  }
}

function invalid(variable: string, what: string): Failure {
  return new Failure('CONFIG_INVALID', `${variable} ${what}`);
}
