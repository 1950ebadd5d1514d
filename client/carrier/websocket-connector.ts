import { relayV1, relayV1Subprotocol } from '../../protocol/relay-v1.ts';
import { webSocketCarrier } from '../../stream/websocket-carrier.ts';
import { authHeaders } from '../credentials/with-credential.ts';
import type { CarrierConnector } from './connector.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import { openWebSocket } from '../http/open-websocket.ts';

/** Carriers that are WebSockets (docs/entry/relay.md). */
export const webSocketConnector: CarrierConnector = {
  async open({ gateway, kind, query, pass, fields, egress, signal, onConnected }) {
    const url = new URL(`${gateway.pathname}v4/${kind}`, gateway);
    const headers = { ...authHeaders(pass, 'GET', url), ...fields };
    url.search = new URLSearchParams(query).toString();
    const socket = await egress.connect(gatewayTarget(gateway), signal);
    onConnected?.();
    return openWebSocket(socket, { url, subprotocol: relayV1Subprotocol, headers, signal }, (webSocket) =>
      webSocketCarrier(webSocket, relayV1, { connection: socket }),
    );
  },
};
