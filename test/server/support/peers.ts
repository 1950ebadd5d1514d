import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { WebSocket } from 'ws';
import { capsuleCodes } from '../../../protocol/capsule.ts';
import { relayV1, relayV1Subprotocol } from '../../../protocol/relay-v1.ts';
import { capsuleStream } from '../../../stream/capsule-stream.ts';
import { connectionReset } from '../../../stream/close.ts';
import { webSocketCarrier } from '../../../stream/websocket-carrier.ts';
import type { Carrier } from '../../../stream/carrier.ts';
import { RelayStream } from '../../../stream/relay-stream.ts';
import { eofSubprotocol, webSocketStream } from '../../../stream/websocket-stream.ts';
import { dial, readHead } from './gateway-parts.ts';

/** Opens a tunnel to `target` through the gateway at `port`, and resolves to its byte stream. */
export interface Peer {
  readonly name: string;
  open(port: number, target: string, token?: string): Promise<Duplex>;
}

function authorization(token: string): string {
  return token === '' ? '' : `Authorization: Bearer ${token}\r\n`;
}

function pathOf(target: string): string {
  return `/ssh/tcp/${target.replace(/:(\d+)$/, '/$1')}/`;
}

/** The head of an upgrade request, as a raw client writes it. */
export function upgradeHead(path: string, upgrade: string, more = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: gw.example\r\nConnection: Upgrade\r\nUpgrade: ${upgrade}\r\n${more}\r\n`;
}

/** The further fields of a WebSocket handshake. */
export const webSocketFields = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n';

/** The head of a request for a tunnel by relay, as a raw client writes it. */
export function relayHead(target: string, more = ''): string {
  const [, host = '', port = ''] = /^(.*?)(?::([^:\]]*))?$/s.exec(target)!;
  const query = `host=${encodeURIComponent(host)}&port=${encodeURIComponent(port)}`;
  const fields = `${webSocketFields}Sec-WebSocket-Protocol: ${relayV1Subprotocol}\r\n`;
  return upgradeHead(`/ssh/v4/connect?${query}`, 'websocket', fields + more);
}

/** The same by plain requests. */
export function plainHead(target: string, more = ''): string {
  const path = relayHead(target).split(' ')[1]!.replace('/v4/', '/http/');
  return `POST ${path} HTTP/1.1\r\nHost: gw.example\r\nContent-Length: 0\r\nConnection: close\r\n${more}\r\n`;
}

export async function rawUpgrade(port: number, head: string): Promise<Socket> {
  const socket = await dial(port);
  socket.write(head);
  const answer = await readHead(socket);
  if (!answer.startsWith('HTTP/1.1 101 ') && !answer.startsWith('HTTP/1.1 200 ')) throw new Error(answer);
  return socket;
}

export const webSocketPeer: Peer = {
  name: 'websocket',
  async open(port, target, token = 'good') {
    const url = `ws://127.0.0.1:${port}${pathOf(target)}`;
    const socket = new WebSocket(url, eofSubprotocol, {
      headers: token === '' ? {} : { authorization: `Bearer ${token}` },
    });
    return new Promise((resolve, reject) => {
      socket.once('open', () => resolve(webSocketStream(socket, { eof: 'message', hearsReasons: true })));
      socket.once('error', reject);
    });
  },
};

export const connectTcpPeer: Peer = {
  name: 'connect-tcp',
  async open(port, target, token = 'good') {
    const head = upgradeHead(
      pathOf(target),
      'connect-tcp',
      `Capsule-Protocol: ?1\r\n${authorization(token)}`,
    );
    return capsuleStream(await rawUpgrade(port, head), capsuleCodes('connect-tcp')!, { hearsReasons: true });
  },
};

export const connectPeer: Peer = {
  name: 'connect',
  async open(port, target, token = 'good') {
    return rawUpgrade(port, `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${authorization(token)}\r\n`);
  },
};

export const relayPeer: Peer = {
  name: 'relay',
  async open(port, target, token = 'good') {
    const [host, at] = target.split(/:(?=\d+$)/);
    const url = `ws://127.0.0.1:${port}/ssh/v4/connect?host=${host}&port=${at}`;
    const socket = new WebSocket(url, relayV1Subprotocol, {
      headers: token === '' ? {} : { authorization: `Bearer ${token}` },
    });
    return new Promise((resolve, reject) => {
      socket.once('open', () => resolve(relayTunnel(webSocketCarrier(socket, relayV1))));
      socket.once('error', reject);
    });
  },
};

/** The tunnel of a client that never resumes. */
function relayTunnel(carrier: Carrier): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    carrier.listen({
      frame(frame) {
        if (frame.kind !== 'opened') return reject(new Error(`${frame.kind} before the greeting`));
        carrier.hold();
        const stream = new RelayStream({
          hearsReasons: true,
          isV4: false,
          windowBytes: frame.windowBytes!,
          onDetached: () => stream.destroy(connectionReset()),
        });
        stream.attach(carrier, { peerReceived: 0, from: 0 });
        resolve(stream);
      },
      drained() {},
      ended: ({ how }) => reject(new Error(how)),
    });
  });
}

export const peers: readonly Peer[] = [relayPeer, webSocketPeer, connectTcpPeer, connectPeer];

/** Resolves to the stream's error code, or to `end` when it ends in order. */
export async function outcome(stream: Duplex): Promise<string> {
  stream.resume();
  const ended = once(stream, 'end').then(() => 'end');
  return Promise.race([
    ended,
    new Promise<string>((resolve) =>
      stream.once('error', (e: NodeJS.ErrnoException) => resolve(e.code ?? e.message)),
    ),
  ]);
}

/** All bytes of the stream until its end; the other way stays open, which `node:stream/consumers` would close. */
export async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(stream, 'end');
  return Buffer.concat(chunks);
}
