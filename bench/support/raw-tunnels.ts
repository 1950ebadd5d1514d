import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { capsuleCodes, capsuleHead } from '../../protocol/capsule.ts';
import { eofSubprotocol } from '../../stream/websocket-stream.ts';

/** A request for a tunnel, and a byte for its target in the form that such tunnels have. */
export interface RawRequest {
  readonly head: string;
  readonly byte: Buffer;
}

/** The value of `Authorization`: `Bearer …`, or `DPoP …` with a proof in a header of its own. */
type Credentials = string;

/** The entries whose requests can be written here, by hand: a client of ours costs more than the gateway that it is to load. */
export const rawEntries = {
  connect: (_port: number, credentials: Credentials, target = 'box'): RawRequest => ({
    head: `CONNECT ${target}:22 HTTP/1.1\r\nHost: ${target}:22\r\nProxy-Authorization: ${credentials}\r\n\r\n`,
    byte: Buffer.from('x'),
  }),
  'connect-tcp': (port: number, credentials: Credentials, target = 'box'): RawRequest => ({
    head: upgrade(port, target, ['connect-tcp', credentials]),
    byte: Buffer.concat([capsuleHead(capsuleCodes('connect-tcp')!.data, 1), Buffer.from('x')]),
  }),
  websocket: (port: number, credentials: Credentials, target = 'box'): RawRequest => ({
    head: upgrade(port, target, [
      'websocket',
      `${credentials}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ${eofSubprotocol}\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==`,
    ]),
    // A last frame of binary, one byte, with a mask of zeros (RFC 6455 §5.2).
    byte: Buffer.from([0x82, 0x81, 0, 0, 0, 0, 'x'.charCodeAt(0)]),
  }),
} as const;

export type RawEntryName = keyof typeof rawEntries;

function upgrade(
  port: number,
  target: string,
  [token, authorization]: readonly [token: string, authorization: string],
): string {
  return `GET /ssh/tcp/${target}/22/ HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: ${token}\r\nAuthorization: ${authorization}\r\n\r\n`;
}

/** Opens a tunnel by the gateway at this port. What comes after its answer is for the caller, who owns the socket. */
export function openRaw(port: number, { head }: RawRequest): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.setNoDelay(true);
    socket.write(head, 'latin1');
    socket.once('data', (bytes) => {
      if (/^HTTP\/1.1 (200|101) /.test(bytes.toString('latin1'))) return resolve(socket);
      socket.destroy();
      reject(new Error(bytes.toString('latin1')));
    });
    socket.on('error', reject);
    socket.once('close', () => reject(new Error('closed')));
  });
}

/** Has the target echo a byte. Rejects when the connection is lost. */
export function echoByte(socket: Socket, { byte }: RawRequest): Promise<void> {
  return new Promise((resolve, reject) => {
    const lost = (): void => reject(new Error('the tunnel was lost'));
    socket.once('close', lost);
    socket.once('data', () => {
      socket.off('close', lost);
      resolve();
    });
    socket.write(byte);
  });
}
