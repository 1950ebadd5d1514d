import { request as httpRequest } from 'node:http';
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { ClientError } from '../errors/failure.ts';
import { printable } from '../os/printable.ts';
import { version } from '../os/version.ts';

/** How long a peer may think about an answer; the gateway itself gives up on a target after 10 s. */
export const answerMs = 16_000;

/** One request on a connection of its own. */
export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'CONNECT';
  readonly path: string;
  readonly headers: OutgoingHttpHeaders;
  /** What a POST brings. */
  readonly body?: string;
  /** Who is asked, for messages. */
  readonly peer: string;
  readonly answerMs?: number;
}

/** The head of an answer, with the connection as HTTP has left it. */
export interface HttpResponse {
  readonly response: IncomingMessage;
  readonly status: number;
  /** Where the body of a refusal is read from. */
  readonly body: Readable;
  /** Whether the bytes after the head belong to the new protocol; always so for CONNECT, whatever the status. */
  readonly switched: boolean;
}

/**
 * Asks on `socket` and waits for the head of the answer; informational answers are skipped. Bytes that came after it
 * are put back. The socket stays the caller's, and is destroyed on failure: `HTTP_UNEXPECTED` for what is no answer,
 * `UPGRADE_REFUSED` for silence, `GATEWAY_TIMEOUT` when `signal` aborts.
 */
export function sendRequest(
  socket: Socket,
  question: HttpRequest,
  signal: AbortSignal,
): Promise<HttpResponse> {
  return new Promise((resolve, reject) => {
    const { method, path, headers, peer } = question;
    const request = httpRequest({
      method,
      path,
      headers: { 'User-Agent': `postern/${version}`, ...headers },
      createConnection: () => socket,
    });
    const stopWaiting = withResponseTimeout(question, signal, (failure) => request.destroy(failure));
    if (method === 'CONNECT') request.removeHeader('Connection');

    const switched = (response: IncomingMessage, _socket: unknown, head: Buffer): void => {
      stopWaiting();
      if (head.length > 0) socket.unshift(head);
      resolve({ response, status: response.statusCode!, body: socket, switched: true });
    };
    request.on(method === 'CONNECT' ? 'connect' : 'upgrade', switched);
    request.on('response', (response) => {
      stopWaiting();
      resolve({ response, status: response.statusCode!, body: response, switched: false });
    });
    request.on('error', (error) => {
      stopWaiting();
      socket.destroy();
      reject(noAnswer(error, peer));
    });
    request.end(question.body);
  });
}

/** Calls `giveUp` with the failure to report, once, when the answer takes too long. Returns what stops the wait. */
export function withResponseTimeout(
  question: Pick<HttpRequest, 'peer' | 'answerMs'>,
  signal: AbortSignal,
  giveUp: (failure: ClientError) => void,
): () => void {
  const { peer } = question;
  // Something that swallows an upgrade looks like this; another entry may pass where this one did not.
  const silent = (): void => giveUp(new ClientError('UPGRADE_REFUSED', `${peer} did not answer the request`));
  const late = (): void => {
    clearTimeout(timer);
    giveUp(new ClientError('GATEWAY_TIMEOUT', `${peer} did not answer in time`));
  };
  const timer = setTimeout(silent, question.answerMs ?? answerMs);
  if (signal.aborted) process.nextTick(late);
  signal.addEventListener('abort', late, { once: true });
  return () => {
    clearTimeout(timer);
    signal.removeEventListener('abort', late);
  };
}

/** The failure of a request that got no answer it could read. */
export function noAnswer(error: Error, peer: string): ClientError {
  if (error instanceof ClientError) return error;
  const { code = '' } = error as NodeJS.ErrnoException;
  if (code === 'ECONNRESET' || code === 'EPIPE') {
    return new ClientError('HTTP_UNEXPECTED', `${peer} closed the connection without an answer`, {
      cause: error,
    });
  }
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new ClientError('HTTP_UNEXPECTED', `${peer} answered with headers that are too large`, {
      cause: error,
    });
  }
  const what = code || printable(error.message);
  return new ClientError('HTTP_UNEXPECTED', `${peer} gave an answer that is not HTTP (${what})`, {
    cause: error,
  });
}
