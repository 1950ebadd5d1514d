import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** A client that is refused has this long to read why. */
const refusedLingerMs = 1000;

/** A tunnel that the gateway ends is over at once; its connection stays this long for the peer to read why. */
const reasonLingerMs = 500;

/**
 * The end of a tunnel can be megabytes behind in the buffers of the kernel and of proxies. If the peer sends anything
 * (a keep-alive) after we have closed, the answer is a reset, and what it has not read yet is lost.
 */
const endedLingerMs = 30_000;

/** Writes `last` and closes; the peer has a second at most to close too. Takes over the socket. */
export function closeAfter(socket: Socket, last: string | Buffer): void {
  socket.end(last);
  linger(socket, refusedLingerMs);
}

/** Closes a connection on which everything was written, and waits for the peer to have read it. Takes over the socket. */
export function closeGently(socket: Socket): void {
  socket.end();
  linger(socket, endedLingerMs);
  // A process that has finished need not wait: the kernel delivers what it has.
  socket.unref();
}

/** Writes `last`, which is no orderly end, and aborts when the peer has had half a second. Takes over the socket. */
export function abortAfter(last: Buffer, socket: Socket): void {
  socket.end(last);
  socket.resume();
  afterReason(socket, () => abort(socket));
}

/** Calls `then` in half a second, unless the connection has closed by then. */
export function afterReason(connection: EventEmitter, then: () => void): void {
  const timer = setTimeout(then, reasonLingerMs);
  timer.unref();
  connection.once('close', () => clearTimeout(timer));
}

function linger(socket: Socket, lingerMs: number): void {
  // Unread bytes would turn the close into a reset, and a reset can overtake the answer.
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  timer.unref();
  socket.once('close', () => clearTimeout(timer));
}

/**
 * Destroys a stream `lingerMs` after its end has been read: its peer is gone, and its reader can close in its own time, but
 * not keep it for ever. The error is `ECONNRESET`.
 */
export function destroyAfterEnd(stream: Duplex, lingerMs: number): void {
  const startTimer = (): void => {
    const timer = setTimeout(() => stream.destroy(connectionReset()), lingerMs);
    timer.unref();
    stream.once('close', () => clearTimeout(timer));
  };
  if (stream.readableEnded) startTimer();
  else stream.once('end', startTimer);
}

/** What Node.js reports of a reset: a tunnel that ends without its EOF ends the same way. */
export function connectionReset(): Error {
  return Object.assign(new Error('the connection ended before the tunnel did'), { code: 'ECONNRESET' });
}

/**
 * Ends the connection so that the peer can tell it from an orderly end: a TCP reset in the clear,
 * a close without close_notify under TLS (draft-ietf-httpbis-connect-tcp, "Closing").
 */
export function abort(socket: Socket): void {
  if (socket.destroyed) return;
  // A unix socket has no port and cannot be reset: Node.js throws.
  const cannotReset = 'encrypted' in socket || socket.localPort === undefined;
  // Node.js (26 too) neither resets nor closes a connection whose FIN it is just sending.
  const isEnding = socket.writableEnded && socket.writableLength === 0;
  if (cannotReset || isEnding) socket.destroy();
  else socket.resetAndDestroy();
}
