import type { Socket } from 'node:net';

const lingerMs = 1000;

/**
 * Says `last`, if anything, and closes: the peer gets every byte, and at most a second to go away itself.
 * The socket is ours to the end.
 */
export function closeGently(socket: Socket, last?: string | Buffer): void {
  if (last === undefined) socket.end();
  else socket.end(last);
  // Unread bytes would turn the close into a reset, and a reset can overtake the answer.
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), lingerMs);
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
