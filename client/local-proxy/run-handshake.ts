import type { Socket } from 'node:net';
import { ClientError } from '../errors/failure.ts';
import { HandshakeRun, Refusal } from './handshake.ts';
import type { Handshake } from './handshake.ts';

/** The result of a handshake, and the bytes that the program sent after it. */
export interface DetectedProtocol<Result> {
  readonly result: Result;
  readonly early: Buffer;
}

/**
 * Runs the handshake with the program at `socket` within `limitMs` milliseconds, and pauses the socket. Resolves to
 * undefined when the program closes the connection before the end. Rejects with `Refusal`. The socket stays the caller's.
 */
export function runHandshake<Result>(
  socket: Socket,
  handshake: Handshake<Result>,
  limitMs: number,
): Promise<DetectedProtocol<Result> | undefined> {
  return new Promise((resolve, reject) => {
    const run = new HandshakeRun(handshake);
    const cleanup = (): void => {
      clearTimeout(timer);
      socket.off('data', onData).off('end', onClose).off('close', onClose).pause();
    };
    const onTimeout = (): void => {
      cleanup();
      reject(new Refusal(new ClientError('REQUEST_TIMEOUT', 'a program did not send its request in time')));
    };
    const timer = setTimeout(onTimeout, limitMs);
    const onClose = (): void => {
      cleanup();
      resolve(undefined);
    };
    const onData = (chunk: Buffer): void => {
      const { replies, done: over, refusal } = run.push(chunk);
      for (const bytes of replies) socket.write(bytes);
      if (over === undefined && refusal === undefined) return;
      cleanup();
      if (over === undefined) reject(refusal);
      else resolve({ result: over.result, early: over.rest });
    };
    socket.on('data', onData).on('end', onClose).on('close', onClose);
    // It may have closed before the listeners were attached.
    if (socket.closed || socket.readableEnded) onClose();
  });
}
