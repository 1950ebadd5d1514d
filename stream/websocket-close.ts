import type { EventEmitter } from 'node:events';
import type { WebSocket } from 'ws';

/** Code 1005: a Close frame without one; 1006: the connection ended without a Close frame (RFC 6455 section 7.4.1). */
type OnClosed = (code: number, reason: string) => void;

/** Whether a close code is one that programs define, and not one of the protocol, which proxies send too (section 7.4.2). */
export function isOfPrograms(code: number): boolean {
  return code >= 3000;
}

/**
 * Calls `onClosed` once: when the peer's Close frame arrives, if its code `isFinal`, else when the connection has ended.
 * `ws` itself tells of a Close only when the connection has ended too, for which it waits 30 seconds: a peer that says that
 * it is done and leaves its connection open would be believed to be there. Call it in `open` at the earliest.
 */
export function onceClosed(socket: WebSocket, isFinal: (code: number) => boolean, onClosed: OnClosed): void {
  // No part of the interface of `ws`; where it is missing, the end of the connection decides.
  const { _receiver: receiver } = socket as unknown as { readonly _receiver?: EventEmitter | null };
  let isOver = false;
  const closed = (code: number, reason: Buffer): void => {
    if (isOver) return;
    isOver = true;
    onClosed(code, reason.toString());
  };
  receiver?.once('conclude', (code: number, reason: Buffer) => {
    if (isFinal(code)) closed(code, reason);
  });
  socket.once('close', closed);
}
