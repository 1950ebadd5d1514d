import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import proxyAddress from '@fastify/proxy-addr';

/** Reads the caller's address off a request. */
export type RemoteAddress = (request: IncomingMessage) => string;

/**
 * The peer's address, or, when the peer is a trusted proxy, what `X-Forwarded-For` says, read from its end up to the
 * first address that is no trusted proxy. Forwarded headers of anyone else are ignored, and so is everything in the
 * list before an entry that is not an address.
 */
export function remoteAddressBehind(trustedProxies: readonly string[]): RemoteAddress {
  const trusted = proxyAddress.compile([...trustedProxies]);
  return (request) => {
    // A unix socket has no address: whoever may connect to it is the proxy.
    let nearest = request.socket.remoteAddress ?? '127.0.0.1';
    const said = String(request.headers['x-forwarded-for'] ?? '').split(',');
    for (const entry of said.toReversed()) {
      const address = entry.trim();
      if (!trusted(nearest, 0) || isIP(address) === 0) break;
      nearest = address;
    }
    return unmapped(nearest);
  };
}

/** An IPv4 address that a dual-stack socket shows as IPv6, in its usual spelling. */
function unmapped(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}
