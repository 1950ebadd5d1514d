import type { IncomingMessage } from 'node:http';
import { WebSocketServer } from 'ws';
import type { ServerOptions, WebSocket } from 'ws';
import { onAbort } from '../../base/deadline.ts';
import { trimOptionalWhitespace } from '../../base/optional-whitespace.ts';
import { TunnelError } from '../../protocol/errors.ts';
import { maxMessageBytes } from '../../stream/zero-copy/websocket-data.ts';
import { eofSubprotocol, webSocketStream } from '../../stream/websocket-stream.ts';
import { readProvenCredentials } from './credentials.ts';
import type { Incoming, RequestEntry } from './entry.ts';
import { refuse } from './refusal.ts';
import { targetInPath } from './request-target.ts';

/** The key of RFC 6455 §4.1: 16 bytes in base64. */
const keyForm = /^[A-Za-z0-9+/]{21}[AQgw]==$/;

/** The options of every WebSocket server here. */
export const webSocketOptions: ServerOptions = {
  noServer: true,
  perMessageDeflate: false,
  maxPayload: maxMessageBytes,
  clientTracking: false,
};

const serverOptions: ServerOptions = {
  ...webSocketOptions,
  handleProtocols: (offered) => (offered.has(eofSubprotocol) ? eofSubprotocol : ([...offered][0] ?? false)),
};

/** Throws `REQUEST_INVALID` for a request that `ws` would refuse in a form of its own. */
export function checkHandshake(request: IncomingMessage): void {
  const { headers } = request;
  const isWebSocket =
    headers['sec-websocket-version'] === '13' && keyForm.test(headers['sec-websocket-key'] ?? '');
  const offered = headers['sec-websocket-protocol'];
  const names = subprotocols(request);
  if (
    isWebSocket &&
    (offered === undefined || (names.every(isToken) && new Set(names).size === names.length))
  )
    return;
  throw new TunnelError('REQUEST_INVALID', 'this is not a WebSocket handshake (RFC 6455 section 4.2.1)');
}

/** The subprotocols that a request offers, as the client spelled them. */
export function subprotocols({ headers }: IncomingMessage): readonly string[] {
  const list = headers['sec-websocket-protocol'];
  return list === undefined ? [] : list.split(',').map(trimOptionalWhitespace);
}

function isToken(text: string): boolean {
  return /^[\w!#$%&'*+.^`|~-]+$/.test(text);
}

/**
 * `GET {prefix}tcp/{host}/{port}/`, or `{prefix}proxy/{host}/{port}` as huproxy's clients request it, with
 * `Upgrade: websocket`: the binary messages are the bytes.
 */
export function webSocketEntry(prefix: string): RequestEntry {
  const server = new WebSocketServer(serverOptions);
  const targetOf = (url: string | undefined): string | undefined =>
    targetInPath(url, `${prefix}tcp/`) ?? targetInPath(url, `${prefix}proxy/`);

  return {
    name: 'websocket',
    upgrades: ['websocket'],
    matches: (request) => targetOf(request.url) !== undefined,
    handle(request, { socket, id, remoteAddress, peer, signal }, onOffer) {
      checkHandshake(request);
      onOffer({
        kind: 'open',
        entry: 'websocket',
        id,
        requested: targetOf(request.url)!,
        credentials: readProvenCredentials(request),
        remoteAddress,
        peer,
        signal,
        accept: () =>
          acceptWebSocket(server, { request, socket, signal }, (webSocket) => {
            const eof = webSocket.protocol === eofSubprotocol ? 'message' : 'close';
            return webSocketStream(webSocket, { eof, connection: socket });
          }),
        reject: (error, challenge) => refuse(socket, error, id, { speaksAs: 'origin', challenge }),
      });
    },
  };
}

/**
 * Answers the handshake and resolves to what `wrap` makes of the WebSocket, which the caller then owns. `wrap` runs before
 * the first message can come. Rejects when the client leaves first; the socket is closed then.
 */
export function acceptWebSocket<T>(
  server: WebSocketServer,
  { request, socket, signal }: Pick<Incoming, 'socket' | 'signal'> & { readonly request: IncomingMessage },
  wrap: (webSocket: WebSocket) => T,
): Promise<T> {
  return new Promise((resolve, reject) => {
    // `handleUpgrade` calls back only when the handshake succeeds.
    onAbort(signal, () => reject(new Error('the client has left')));
    if (signal.aborted) return;
    server.handleUpgrade(request, socket, Buffer.alloc(0), (webSocket) => resolve(wrap(webSocket)));
  });
}
