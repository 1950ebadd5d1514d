import { createServer } from 'node:http';
import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { capsuleCodes } from '../../../protocol/capsule.ts';
import { capsuleStream } from '../../../stream/capsule-stream.ts';
import { eofSubprotocol, webSocketStream } from '../../../stream/websocket-stream.ts';

/** A gateway of a few lines that says yes to everything: `serve` gets each tunnel with the request for it. */
export function gatewayDouble(
  serve: (tunnel: Duplex, request: IncomingMessage) => void,
  server: Server = createServer(),
): Server {
  const onTunnel: typeof serve = (tunnel, request) =>
    serve(
      tunnel.on('error', () => {}),
      request,
    );
  const webSockets = new WebSocketServer({ noServer: true, handleProtocols: () => eofSubprotocol });
  server.on('upgrade', (request, socket: Socket, head) => {
    socket.on('error', () => {});
    if (request.headers.upgrade === 'websocket') {
      webSockets.handleUpgrade(request, socket, head, (ws) =>
        onTunnel(webSocketStream(ws, { eof: 'message' }), request),
      );
      return;
    }
    const upgrade = request.headers.upgrade!;
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n\r\n`);
    onTunnel(capsuleStream(socket, capsuleCodes(upgrade)!), request);
  });
  server.on('connect', (request, socket: Socket) => {
    socket.on('error', () => {});
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    onTunnel(socket, request);
  });
  return server;
}
