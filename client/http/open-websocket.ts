import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import { ClientError } from '../errors/failure.ts';
import { printable } from '../os/terminal.ts';
import { userAgent } from '../os/version.ts';
import { noAnswer, withResponseTimeout } from './exchange.ts';
import { describeServer, refusal } from './refusal.ts';

const maxMessageBytes = 1024 * 1024;

/** The opening handshake of a WebSocket. */
export interface WebSocketOptions {
  readonly url: URL;
  readonly subprotocol: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/**
 * Opens a WebSocket on `socket`, which it takes over, and resolves to the result of `use`, called in the tick in which
 * the WebSocket opens: messages can follow in the next. Throws `UPGRADE_REFUSED`, `HTTP_UNEXPECTED`, `GATEWAY_TIMEOUT`,
 * and the gateway's error.
 */
export async function openWebSocket<T>(
  socket: Socket,
  { url, subprotocol, headers, signal }: WebSocketOptions,
  use: (webSocket: WebSocket) => T,
): Promise<T> {
  try {
    const webSocket = new WebSocket(url, [subprotocol], {
      createConnection: () => socket,
      headers: { ...headers, 'User-Agent': userAgent },
      maxPayload: maxMessageBytes,
      perMessageDeflate: false,
    });
    return await handshake(webSocket, { peer: url.host, signal, use });
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

interface WebSocketHandshake<T> {
  readonly peer: string;
  readonly signal: AbortSignal;
  readonly use: (webSocket: WebSocket) => T;
}

function handshake<T>(socket: WebSocket, { peer, signal, use }: WebSocketHandshake<T>): Promise<T> {
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

/** The error of a 101 that does not match the handshake; `cause` is the finding of `ws`. */
function notAccepted(cause: Error, response: IncomingMessage, peer: string): ClientError {
  const what = `${describeServer(response, peer)} sent an invalid WebSocket handshake: ${printable(cause.message)}`;
  return new ClientError('UPGRADE_REFUSED', what, { cause });
}
