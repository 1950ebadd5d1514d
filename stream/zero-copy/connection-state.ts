import type { Socket } from 'node:net';

interface WithHandle {
  readonly _handle?: { readonly getpeername?: (result: object) => number } | null;
}

/**
 * Whether the kernel has closed the connection below a TLS socket: its peer has reset it, or has left TCP keep-alives
 * unanswered. Node.js has no public way to ask: an empty write ends in the TLS layer, and `remoteAddress` is remembered
 * from the beginning. The handle asks the kernel (getpeername(2): ENOTCONN). False where Node.js has no such function; such a loss
 * is then noticed by the next write only.
 */
export function isDisconnected(socket: Socket): boolean {
  const { _handle: handle } = socket as WithHandle;
  if (typeof handle?.getpeername !== 'function') return false;
  return handle.getpeername({}) < 0;
}
