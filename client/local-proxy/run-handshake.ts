import type { Socket } from 'node:net';
import { ClientError } from '../errors/failure.ts';
import { HandshakeRun, Refusal } from './handshake.ts';
import type { Handshake } from './handshake.ts';

/** What a program has asked for, and what it has sent after that. */
export interface DetectedProtocol<Result> {
  readonly result: Result;
  readonly early: Buffer;
}

/**
 * Leads the dialogue with the program at `socket`, which has `limitMs` for all of it, and pauses the socket. Resolves to
 * undefined when the program leaves before that. Rejects with `Refusal`. The socket stays the caller's.
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
      reject(new Refusal(new ClientError('REQUEST_TIMEOUT', 'a program did not say in time what it wants')));
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
    // It may have gone while nobody listened.
    if (socket.closed || socket.readableEnded) onClose();
  });
}
