import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import { eofSubprotocol, webSocketStream } from '../../stream/websocket-stream.ts';
import { withResponseTimeout, noAnswer } from '../http/exchange.ts';
import { ClientError } from '../errors/failure.ts';
import { printable } from '../os/printable.ts';
import { authHeaders } from '../credentials/with-credential.ts';
import { version } from '../os/version.ts';
import { gatewayTarget, tunnelPath } from './entry.ts';
import type { ClientEntry } from './entry.ts';
import { refusal, describeServer } from './refusal.ts';

const largestMessageBytes = 1024 * 1024;

/** The tunnel by WebSocket: binary messages are its bytes, an empty one is the EOF. */
export const websocket: ClientEntry = {
  name: 'websocket',
  async open(request, egress, signal) {
    const { gateway } = request;
    const url = new URL(tunnelPath(request), gateway);
    const headers = authHeaders(request, 'GET', url);
    const socket = await egress.connect(gatewayTarget(gateway), signal);
    return openWebSocket(socket, { url, subprotocol: eofSubprotocol, headers, signal }, byMessage);
  },
};

function byMessage(webSocket: WebSocket): Duplex {
  return webSocketStream(webSocket, { eof: 'message' });
}

/** A WebSocket to be asked for. */
export interface WebSocketQuestion {
  readonly url: URL;
  readonly subprotocol: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/**
 * Opens a WebSocket on `socket`, which it takes over, and gives what `use` makes of it in the very tick in which it
 * opens: messages may follow in the next. Throws as `ClientEntry.open` does.
 */
export async function openWebSocket<T>(
  socket: Socket,
  { url, subprotocol, headers, signal }: WebSocketQuestion,
  use: (webSocket: WebSocket) => T,
): Promise<T> {
  try {
    const webSocket = new WebSocket(url, [subprotocol], {
      createConnection: () => socket,
      headers: { ...headers, 'User-Agent': `postern/${version}` },
      maxPayload: largestMessageBytes,
      perMessageDeflate: false,
    });
    return await handshake(webSocket, { peer: url.host, signal, use });
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

interface Handshake<T> {
  readonly peer: string;
  readonly signal: AbortSignal;
  readonly use: (webSocket: WebSocket) => T;
}

function handshake<T>(socket: WebSocket, { peer, signal, use }: Handshake<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    let switched: IncomingMessage | undefined;
    const fail = (failure: ClientError): void => {
      stopWaiting();
      reject(failure);
      socket.terminate();
    };
    const stopWaiting = withResponseTimeout({ peer }, signal, fail);
    socket.once('upgrade', (response) => (switched = response));
    socket.once('open', () => {
      stopWaiting();
      resolve(use(socket));
    });
    socket.once('unexpected-response', (_request, response) => {
      stopWaiting();
      void refusal({ response, status: response.statusCode!, body: response }, peer).then(fail);
    });
    socket.on('error', (error) =>
      fail(switched ? notAccepted(error, switched, peer) : noAnswer(error, peer)),
    );
  });
}

/** A 101 that is not the answer to our handshake; `ws` says what is wrong with it. */
function notAccepted(cause: Error, response: IncomingMessage, peer: string): ClientError {
  const what = `${describeServer(response, peer)} answered 101 but not to our WebSocket: ${printable(cause.message)}`;
  return new ClientError('UPGRADE_REFUSED', what, { cause });
}
