import { formatResponseHead } from '../../protocol/http-head.ts';
import { readCredentials } from './credentials.ts';
import type { RequestEntry } from './entry.ts';
import { refuse } from './refusal.ts';

/**
 * `CONNECT host:port` (RFC 9110 §9.3.6), HTTP/1.1 or 1.0: after the 200 the connection itself is the tunnel.
 * The token comes in `Proxy-Authorization`, or in `Authorization` from clients that take the gateway for an origin server.
 * A proof cannot be read here, since a CONNECT has no URL that it could be about (RFC 9449 §4.2): tokens that are bound to
 * a key are refused, and such clients use tickets.
 */
export function connectEntry(): RequestEntry {
  return {
    name: 'connect',
    upgrades: [],
    matches: (request) => request.method === 'CONNECT',
    handle(request, { socket, id, remoteAddress, peer, signal }, onOffer) {
      const { authorization, 'proxy-authorization': proxyAuthorization } = request.headers;
      onOffer({
        kind: 'open',
        entry: 'connect',
        id,
        requested: request.url ?? '',
        credentials: readCredentials(proxyAuthorization ?? authorization),
        remoteAddress,
        peer,
        signal,
        accept: async () => {
          signal.throwIfAborted();
          // nc and corkscrew know no other 2xx, and a 2xx has no body headers (RFC 9110 §9.3.6).
          socket.write(formatResponseHead(200, 'Connection established', []));
          return socket;
        },
        reject: (error, challenge) => refuse(socket, error, id, { speaksAs: 'proxy', challenge }),
      });
    },
  };
}
