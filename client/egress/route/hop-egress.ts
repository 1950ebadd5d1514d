import { direct } from '../direct.ts';
import type { Egress } from '../egress.ts';
import { httpProxy } from '../proxy/http-proxy.ts';
import type { ProxySignIn } from '../proxy-auth/credentials.ts';
import { hopName } from '../proxy/proxy-url.ts';
import type { Proxy, Hop } from '../proxy/proxy-url.ts';
import type { TrustSources } from '../tls/tls.ts';

/** The egress of one hop; `trust` is for the TLS of an https:// proxy, `signIn` for a proxy that requires a sign-in. */
export function hopEgress(hop: Hop, trust: TrustSources, signIn?: ProxySignIn): Egress {
  if (hop === 'direct') return direct;
  const { scheme, address, user, password } = hop;
  if (scheme !== 'http' && scheme !== 'https') return socks(hop);
  const named = { ...(user === undefined ? {} : { user }), ...(password && { password }) };
  return httpProxy({ address, tls: scheme === 'https', ...named }, trust, signIn);
}

function socks(proxy: Proxy): Egress {
  return {
    name: hopName(proxy),
    connect: async (gateway, signal) => {
      const { connectBySocks } = await import('../proxy/socks-proxy.ts');
      return connectBySocks(proxy, gateway, signal);
    },
  };
}
