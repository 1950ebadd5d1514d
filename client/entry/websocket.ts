import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { eofSubprotocol, webSocketStream } from '../../stream/websocket-stream.ts';
import { authHeaders } from '../credentials/with-credential.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import { tunnelPath } from './entry.ts';
import type { ClientEntry } from './entry.ts';
import { openWebSocket } from '../http/open-websocket.ts';

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
  return webSocketStream(webSocket, { eof: 'message', hearsReasons: true });
}
