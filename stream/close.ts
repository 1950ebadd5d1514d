import type { Socket } from 'node:net';

/** A stranger gets this long to read why it is refused. */
const refusedLingerMs = 1000;

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
  if ('encrypted' in socket) socket.destroy();
  else socket.resetAndDestroy();
}
