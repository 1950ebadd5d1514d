import { createServer } from 'node:http';
import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import type { WebSocket } from 'ws';
import { capsuleCodes } from '../../../protocol/capsule.ts';
import { TunnelError } from '../../../protocol/errors.ts';
import { relayV1, relayV1Subprotocol } from '../../../protocol/relay-v1.ts';
import { capsuleStream } from '../../../stream/capsule-stream.ts';
import { httpEntry } from '../../../server/entry/http.ts';
import { HttpCarriers } from '../../../server/entry/http-carrier.ts';
import type { ResumableTunnels } from '../../../server/resume/resumable-tunnels.ts';
import { webSocketCarrier } from '../../../stream/websocket-carrier.ts';
import type { Carrier } from '../../../stream/carrier.ts';
import { RelayStream } from '../../../stream/relay-stream.ts';
import { eofSubprotocol, webSocketStream } from '../../../stream/websocket-stream.ts';

/**
 * A gateway of a few lines that says yes to everything: `serve` gets each tunnel with the request for it. A tunnel by
 * relay has no second connection here: who asks for one is told that there is no such tunnel.
 */
export function gatewayDouble(
  serve: (tunnel: Duplex, request: IncomingMessage) => void,
  server: Server = createServer(),
): Server {
  const onTunnel: typeof serve = (tunnel, request) =>
    serve(
      tunnel.on('error', () => {}),
      request,
    );
  const carriers = new HttpCarriers();
  const webSockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => (offered.has(relayV1Subprotocol) ? relayV1Subprotocol : eofSubprotocol),
  });
  server.on('upgrade', (request, socket: Socket, head) => {
    socket.on('error', () => {});
    if (request.url!.includes('/v4/reconnect?')) {
      socket.end(noSuchTunnel);
      return;
    }
    if (request.headers.upgrade === 'websocket') {
      webSockets.handleUpgrade(request, socket, head, (ws) => onTunnel(tunnelOver(ws), request));
      return;
    }
    const upgrade = request.headers.upgrade!;
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n\r\n`);
    onTunnel(capsuleStream(socket, capsuleCodes(upgrade)!), request);
  });
  server.on('request', (request, response) => {
    if (!request.url!.startsWith('/ssh/http/')) return;
    const peer = { address: '127.0.0.1', localAddress: '127.0.0.1' };
    const exchange = { response, remoteAddress: '127.0.0.1', peer, id: 'double', signal: never };
    const relays = {
      open: (_id: string, carrier: Carrier) => tunnelOn(carrier),
    } as unknown as ResumableTunnels;
    httpEntry('/ssh/', { tunnels: () => relays, carriers }).handle(request, exchange, (offer) => {
      if (offer.kind === 'resume') return offer.reject(new TunnelError('TUNNEL_GONE', 'no such tunnel'));
      void offer.accept().then((tunnel) => onTunnel(tunnel, request));
    });
  });
  server.on('connect', (request, socket: Socket) => {
    socket.on('error', () => {});
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    onTunnel(socket, request);
  });
  return server;
}

const never = new AbortController().signal;
const problem = JSON.stringify({ status: 410, code: 'TUNNEL_GONE', detail: 'no such tunnel' });
const noSuchTunnel = `HTTP/1.1 410 Gone\r\nContent-Type: application/problem+json\r\nContent-Length: ${problem.length}\r\nConnection: close\r\n\r\n${problem}`;

function tunnelOver(webSocket: WebSocket): Duplex {
  if (webSocket.protocol !== relayV1Subprotocol) return webSocketStream(webSocket, { eof: 'message' });
  return tunnelOn(webSocketCarrier(webSocket, relayV1));
}

function tunnelOn(carrier: Carrier): Duplex {
  const windowBytes = 256 * 1024;
  carrier.send({ kind: 'opened', sid: 'double', secret: 'sesame', windowBytes, keepMs: 60_000 });
  const stream = new RelayStream({ isV4: false, windowBytes });
  stream.attach(carrier, { peerReceived: 0, from: 0 });
  return stream;
}
