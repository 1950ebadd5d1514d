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
  dialogue: Handshake<Result>,
  limitMs: number,
): Promise<DetectedProtocol<Result> | undefined> {
  return new Promise((resolve, reject) => {
    const run = new HandshakeRun(dialogue);
    const stop = (): void => {
      clearTimeout(timer);
      socket.off('data', hear).off('end', leave).off('close', leave).pause();
    };
    const late = (): void => {
      stop();
      reject(new Refusal(new ClientError('REQUEST_TIMEOUT', 'a program did not say in time what it wants')));
    };
    const timer = setTimeout(late, limitMs);
    const leave = (): void => {
      stop();
      resolve(undefined);
    };
    const hear = (chunk: Buffer): void => {
      const { said, over, refusal } = run.push(chunk);
      for (const bytes of said) socket.write(bytes);
      if (over === undefined && refusal === undefined) return;
      stop();
      if (over === undefined) reject(refusal);
      else resolve({ result: over.result, early: over.rest });
    };
    socket.on('data', hear).on('end', leave).on('close', leave);
    // It may have gone while nobody listened.
    if (socket.closed || socket.readableEnded) leave();
  });
}
