import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import proxyAddress from '@fastify/proxy-addr';
import type { ConnectionPeer } from '../auth/authenticator.ts';

/** Reads the client's address off a request. */
export type RemoteAddress = (request: IncomingMessage) => string;

/**
 * The peer's address, or, when the peer is a trusted proxy, the address in `X-Forwarded-For`, read from its end up to the
 * first address that is no trusted proxy. Forwarded headers of any other peer are ignored, and so is everything in the
 * list before an entry that is not an address.
 */
export function remoteAddressBehind(trustedProxies: readonly string[]): RemoteAddress {
  const trusted = proxyAddress.compile([...trustedProxies]);
  return (request) => {
    // A unix socket has no address: every program that is allowed to connect to it is the proxy.
    let nearest = request.socket.remoteAddress ?? '127.0.0.1';
    const forwarded = String(request.headers['x-forwarded-for'] ?? '').split(',');
    for (const entry of forwarded.toReversed()) {
      const address = entry.trim();
      if (!trusted(nearest, 0) || isIP(address) === 0) break;
      nearest = address;
    }
    return unmapped(nearest);
  };
}

/** The other end of a connection, as the kernel and TLS report it. */
export function connectionPeer(socket: Socket): ConnectionPeer {
  const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
  return {
    address: socket.remoteAddress,
    localAddress: socket.localAddress,
    ...(certificate && { certificate }),
  };
}

/** An IPv4 address that a dual-stack socket reports as IPv6, in its usual spelling. */
function unmapped(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}
