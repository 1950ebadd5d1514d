import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import type { ServerOptions, WebSocket } from 'ws';
import { TunnelError } from '../../protocol/errors.ts';
import { maxMessageBytes } from '../../stream/zero-copy/websocket-data.ts';
import { eofSubprotocol, webSocketStream } from '../../stream/websocket-stream.ts';
import { readProvenCredentials } from './credentials.ts';
import type { Incoming, OnOffer, RequestEntry } from './entry.ts';
import { refuse } from './refusal.ts';
import { targetInPath } from './target-path.ts';

/** The key of RFC 6455 §4.1: 16 bytes in base64. */
const keyForm = /^[A-Za-z0-9+/]{21}[AQgw]==$/;

/** What every WebSocket here is like. */
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

/** Throws `REQUEST_INVALID` for what `ws` would refuse in words of its own. */
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

/** The subprotocols that a request offers, as they were written. */
export function subprotocols({ headers }: IncomingMessage): readonly string[] {
  const list = headers['sec-websocket-protocol'];
  return list === undefined ? [] : list.split(',').map((name) => name.replaceAll(/^[ \t]+|[ \t]+$/g, ''));
}

function isToken(text: string): boolean {
  return /^[\w!#$%&'*+.^`|~-]+$/.test(text);
}

/**
 * `GET {prefix}tcp/{host}/{port}/`, or `{prefix}proxy/{host}/{port}` as huproxy's clients ask, with
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
    handle(request, incoming, onOffer: OnOffer) {
      const { socket, id, remoteAddress, signal } = incoming;
      checkHandshake(request);
      onOffer({
        kind: 'open',
        entry: 'websocket',
        id,
        requested: targetOf(request.url)!,
        credentials: readProvenCredentials(request),
        remoteAddress,
        signal,
        accept: () => accept(server, request, incoming),
        reject: (error) => refuse(socket, error, id, { speaksAs: 'origin' }),
      });
    },
  };
}

async function accept(
  server: WebSocketServer,
  request: IncomingMessage,
  incoming: Incoming,
): Promise<Duplex> {
  const { socket, signal } = incoming;
  return new Promise((resolve, reject) => {
    // `handleUpgrade` calls back only when the handshake succeeds.
    const gone = (): void => reject(new Error('the client went away'));
    if (signal.aborted) return gone();
    signal.addEventListener('abort', gone, { once: true });
    server.handleUpgrade(request, socket, Buffer.alloc(0), (webSocket: WebSocket) => {
      resolve(
        webSocketStream(webSocket, {
          eof: webSocket.protocol === eofSubprotocol ? 'message' : 'close',
          connection: socket,
        }),
      );
    });
  });
}
