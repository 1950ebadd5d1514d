import type { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';

/** A stranger gets this long to read why it is refused. */
const refusedLingerMs = 1000;

/** A tunnel that the gateway ends is over at once; its connection stays this long for the peer to read why. */
const reasonLingerMs = 500;

/**
 * The end of a tunnel may be megabytes behind in the buffers of the kernel and of proxies. Should the peer say anything
 * (a keep-alive) after we have closed, the answer is a reset, and what it has not read yet is lost.
 */
const endedLingerMs = 30_000;

/** Says `last` and closes: the peer has at most a second to go away itself. The socket is ours to the end. */
export function closeAfter(socket: Socket, last: string | Buffer): void {
  socket.end(last);
  linger(socket, refusedLingerMs);
}

/** Closes a connection that has said everything, and waits for the peer to have read it. The socket is ours to the end. */
export function closeGently(socket: Socket): void {
  socket.end();
  linger(socket, endedLingerMs);
  // A process that is done need not wait: the kernel delivers what it has.
  socket.unref();
}

/** Says `last`, which is no orderly end, and breaks off when the peer has had half a second. The socket is ours to the end. */
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
 * Ends the connection so that the peer can tell it from an orderly end: a TCP reset in the clear,
 * a close without close_notify under TLS (draft-ietf-httpbis-connect-tcp, "Closing").
 */
export function abort(socket: Socket): void {
  if (socket.destroyed) return;
  // A unix socket has no port, and knows no reset: Node.js throws.
  const knowsNoReset = 'encrypted' in socket || socket.localPort === undefined;
  // Node.js (26 too) neither resets nor closes a connection whose end it is just sending.
  const isEnding = socket.writableEnded && socket.writableLength === 0;
  if (knowsNoReset || isEnding) socket.destroy();
  else socket.resetAndDestroy();
}
