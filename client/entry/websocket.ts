import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import { eofSubprotocol, webSocketStream } from '../../stream/websocket-stream.ts';
import { limitWait, noAnswer } from '../exchange.ts';
import { Failure } from '../failure.ts';
import { printable } from '../printable.ts';
import { passHeaders } from '../token/pass.ts';
import { version } from '../version.ts';
import { gatewayTarget, tunnelPath } from './entry.ts';
import type { ClientEntry } from './entry.ts';
import { refusal, who } from './refusal.ts';

const largestMessageBytes = 1024 * 1024;

/** The tunnel by WebSocket: binary messages are its bytes, an empty one is the EOF. */
export const websocket: ClientEntry = {
  name: 'websocket',
  async open(request, egress, signal) {
    const { gateway } = request;
    const url = new URL(tunnelPath(request), gateway);
    const socket = await egress.connect(gatewayTarget(gateway), signal);
    try {
      return await handshake(
        new WebSocket(url, [eofSubprotocol], {
          createConnection: () => socket,
          headers: { ...passHeaders(request, 'GET', url), 'User-Agent': `postern/${version}` },
          maxPayload: largestMessageBytes,
          perMessageDeflate: false,
        }),
        gateway.host,
        signal,
      );
    } catch (error) {
      socket.destroy();
      throw error;
    }
  },
};

function handshake(socket: WebSocket, peer: string, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    let switched: IncomingMessage | undefined;
    const fail = (failure: Failure): void => {
      stopWaiting();
      reject(failure);
      socket.terminate();
    };
    const stopWaiting = limitWait({ peer }, signal, fail);
    socket.once('upgrade', (response) => (switched = response));
    socket.once('open', () => {
      stopWaiting();
      // In this very tick: messages may follow in the next.
      resolve(webSocketStream(socket, { eof: 'message' }));
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
function notAccepted(cause: Error, response: IncomingMessage, peer: string): Failure {
  const what = `${who(response, peer)} answered 101 but not to our WebSocket: ${printable(cause.message)}`;
  return new Failure('UPGRADE_REFUSED', what, { cause });
}
