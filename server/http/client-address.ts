import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import proxyAddress from '@fastify/proxy-addr';
import type { ConnectionPeer } from '../auth/authenticator.ts';

/** Reads the client's address off a request. */
export type RemoteAddress = (request: IncomingMessage) => string;

/** For a client whose connection was over before its address was read. No client and no proxy has this address. */
const unknownAddress = '0.0.0.0';

/**
 * The peer's address, or, when the peer is a trusted proxy, the address in `X-Forwarded-For`, read from its end up to the
 * first address that is no trusted proxy. Forwarded headers of any other peer are ignored, and so is everything in the
 * list before an entry that is not an address.
 */
export function remoteAddressBehind(trustedProxies: readonly string[]): RemoteAddress {
  const trusted = proxyAddress.compile([...trustedProxies]);
  return (request) => {
    let nearest = peerAddress(request.socket);
    const forwarded = String(request.headers['x-forwarded-for'] ?? '').split(',');
    for (const entry of forwarded.toReversed()) {
      const address = entry.trim();
      if (!trusted(nearest, 0) || isIP(address) === 0) break;
      nearest = address;
    }
    return unmapped(nearest);
  };
}

/**
 * A unix socket has no address; its peer counts as one on this machine. Neither has a connection that was reset before
 * this: it must not count as that, and be trusted as a proxy.
 */
function peerAddress({ remoteAddress, localAddress, destroyed }: Socket): string {
  if (remoteAddress !== undefined) return remoteAddress;
  return destroyed || localAddress !== undefined ? unknownAddress : '127.0.0.1';
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
