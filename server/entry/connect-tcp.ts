import type { IncomingMessage } from 'node:http';
import { capsuleCodes, connectTcpTokens } from '../../protocol/capsule.ts';
import { formatResponseHead } from '../../protocol/http-head.ts';
import { capsuleStream } from '../../stream/capsule-stream.ts';
import { readProvenCredentials } from './credentials.ts';
import type { RequestEntry } from './entry.ts';
import { refuse } from './refusal.ts';
import { targetInPath } from './request-target.ts';

/** The default template of connect-tcp ("Specifying Proxies via URI Templates"), at the root of the host. */
const wellKnownPrefix = '/.well-known/masque/tcp/';

/**
 * `GET {prefix}tcp/{host}/{port}/` or `/.well-known/masque/tcp/{host}/{port}/` with `Upgrade: connect-tcp`
 * (draft-ietf-httpbis-connect-tcp): the bytes travel in capsules (RFC 9297).
 */
export function connectTcpEntry(prefix: string): RequestEntry {
  const targetOf = (url: string | undefined): string | undefined =>
    targetInPath(url, `${prefix}tcp/`) ?? targetInPath(url, wellKnownPrefix);

  return {
    name: 'connect-tcp',
    upgrades: connectTcpTokens,
    matches: (request) => targetOf(request.url) !== undefined,
    handle(request, { socket, id, remoteAddress, peer, signal }, onOffer) {
      const token = request.headers.upgrade!.toLowerCase();
      onOffer({
        kind: 'open',
        entry: 'connect-tcp',
        id,
        requested: targetOf(request.url)!,
        credentials: readProvenCredentials(request),
        remoteAddress,
        peer,
        signal,
        // A client that asks for it learns that the request is accepted while the target is still being dialled (RFC 9110
        // section 10.1.1; the draft: "Conveying metadata").
        allowed: () => {
          if (expectsContinue(request) && socket.writable)
            socket.write(formatResponseHead(100, 'Continue', []));
        },
        accept: async () => {
          signal.throwIfAborted();
          socket.write(
            formatResponseHead(101, 'Switching Protocols', [
              ['Connection', 'Upgrade'],
              ['Upgrade', token],
              ['Capsule-Protocol', '?1'],
              ['Proxy-Status', 'postern'],
            ]),
          );
          return capsuleStream(socket, capsuleCodes(token)!);
        },
        reject: (error, challenge) => refuse(socket, error, id, { speaksAs: 'origin', challenge }),
      });
    },
  };
}

function expectsContinue({ headers }: IncomingMessage): boolean {
  return headers.expect?.trim().toLowerCase() === '100-continue';
}
