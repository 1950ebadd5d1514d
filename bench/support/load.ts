import { once } from 'node:events';
import { Socket, connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { Writable } from 'node:stream';

/** What the target does with a connection: send for ever, take for ever, or send back what comes. */
export type Role = 'source' | 'sink' | 'echo';

/** What everything that is measured leads to. */
export interface LoadTarget {
  readonly port: number;
  /** Of connections from now on. */
  role: Role;
  /** The bytes that it has taken as a sink. */
  readonly taken: number;
  /** Ends all connections. */
  cut(): void;
  close(): void;
}

const largeChunk = Buffer.alloc(256 * 1024, 'x');
/** What a Node.js program reads from a pipe at once, and passes on. */
const smallChunk = largeChunk.subarray(0, 64 * 1024);

/** Starts it. The caller closes it. */
export async function startLoadTarget(): Promise<LoadTarget> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).once('close', () => sockets.delete(socket));
    if (target.role === 'source') pour(socket.resume());
    else if (target.role === 'echo') socket.pipe(socket);
    else socket.on('data', ({ length }: Buffer) => (target.taken += length));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const target = {
    port: (server.address() as AddressInfo).port,
    role: 'sink' as Role,
    taken: 0,
    cut() {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    close() {
      target.cut();
      server.close();
    },
  };
  return target;
}

/** Sends for as long as the stream takes something. */
export function pour(stream: Writable): void {
  const chunk = stream instanceof Socket ? largeChunk : smallChunk;
  const more = (): void => {
    if (!stream.destroyed && !stream.writableEnded && stream.write(chunk)) setImmediate(more);
  };
  // Where the kernel takes everything at once, `drain` comes in the same turn of the event loop, again and again.
  stream.on('drain', () => setImmediate(more));
  more();
}

/** Connects to a port of loopback as cheaply as it can be done: what comes is counted, and nothing else. */
export async function connectCounting(port: number, take: (bytes: number) => void): Promise<Socket> {
  const onread = {
    buffer: Buffer.allocUnsafeSlow(256 * 1024),
    callback: (bytes: number) => {
      take(bytes);
      return true;
    },
  };
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread });
  await once(socket, 'connect');
  return socket.on('error', () => {});
}
