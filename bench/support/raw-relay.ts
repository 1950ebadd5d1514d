import { createHmac } from 'node:crypto';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { relayV1Subprotocol } from '../../protocol/relay-v1.ts';

/** A resumable tunnel whose requests are written by hand, as cheaply as that can be done. */
export interface RawRelayTunnel {
  readonly sid: string;
  readonly secret: string;
  /** Its connection now; after `resumeRawRelay` another one. */
  socket: Socket;
  /** Resumes so far. */
  count: number;
  readonly credentials: string;
}

/** Opens a tunnel to `box` by the gateway at this port. */
export async function openRawRelay(port: number, credentials: string): Promise<RawRelayTunnel> {
  const { socket, frame } = await request(port, credentials, 'connect?host=box&port=22');
  const [, sid, secret] = /opened sid=(\S+) secret=(\S+)/.exec(frame) ?? [];
  if (sid === undefined || secret === undefined) throw new Error(`no tunnel: ${frame}`);
  return { sid, secret, socket, count: 0, credentials };
}

/** Resumes a tunnel that has carried nothing. Resolves when the gateway has said so. */
export async function resumeRawRelay(port: number, tunnel: RawRelayTunnel): Promise<void> {
  const { sid, secret, credentials } = tunnel;
  const count = ++tunnel.count;
  const mac = createHmac('sha256', Buffer.from(secret, 'latin1'))
    .update(`postern-rejoin\n${sid}\n${count}\n0`)
    .digest('base64url');
  const field = `Postern-Rejoin: count=${count}, mac=${mac}, cause=reset\r\n`;
  const { socket, frame } = await request(port, credentials, `reconnect?sid=${sid}&ack=0`, field);
  if (!frame.includes('joined ')) throw new Error(`not resumed: ${frame}`);
  tunnel.socket = socket;
}

/** Resolves to the connection, and the text of the first message that came on it. */
function request(
  port: number,
  credentials: string,
  path: string,
  field = '',
): Promise<{ readonly socket: Socket; readonly frame: string }> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    let received = '';
    socket.write(
      `GET /ssh/v4/${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n` +
        `Sec-WebSocket-Protocol: ${relayV1Subprotocol}\r\nAuthorization: ${credentials}\r\n${field}\r\n`,
      'latin1',
    );
    const read = (bytes: Buffer): void => {
      received += bytes.toString('latin1');
      const [head, frame = ''] = received.split('\r\n\r\n', 2);
      if (head!.startsWith('HTTP/1.1 101 ')) {
        // A short text message: two bytes before its text, or four.
        if (frame.length < 20) return;
        socket.off('data', read).resume();
        resolve({ socket, frame });
        return;
      }
      if (received === head) return;
      socket.destroy();
      reject(new Error(head!.split('\r\n', 1)[0]));
    };
    socket.on('data', read);
    socket.on('error', reject);
    socket.once('close', () => reject(new Error('closed')));
  });
}
