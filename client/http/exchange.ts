import { request as httpRequest } from 'node:http';
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { onAbort } from '../../base/deadline.ts';
import { ClientError } from '../errors/failure.ts';
import { printable } from '../os/terminal.ts';
import { userAgent } from '../os/version.ts';

/** Limit for the head of a response; the gateway itself gives up on a target after 10 s. */
export const answerMs = 16_000;

/** One request on a connection of its own. */
export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'CONNECT';
  readonly path: string;
  readonly headers: OutgoingHttpHeaders;
  /** The body of a POST. */
  readonly body?: string;
  /** The name of the server in messages. */
  readonly peer: string;
  readonly answerMs?: number;
}

/** The head of a response, with the connection in the state that HTTP has left it in. */
export interface HttpResponse {
  readonly response: IncomingMessage;
  readonly status: number;
  /** The source of an error response's body. */
  readonly body: Readable;
  /** Whether the bytes after the head belong to the new protocol; always so for CONNECT, whatever the status. */
  readonly switched: boolean;
}

/**
 * Sends a request on `socket` and waits for the head of the response; interim (1xx) responses are skipped. Bytes that
 * follow it are put back. The socket stays the caller's, and is destroyed on failure: `HTTP_UNEXPECTED` for an invalid
 * response, `UPGRADE_REFUSED` for silence, `GATEWAY_TIMEOUT` when `signal` aborts.
 */
export function sendRequest(
  socket: Socket,
  options: HttpRequest,
  signal: AbortSignal,
): Promise<HttpResponse> {
  return new Promise((resolve, reject) => {
    const { method, path, headers, peer } = options;
    const request = httpRequest({
      method,
      path,
      headers: { 'User-Agent': userAgent, ...headers },
      createConnection: () => socket,
    });
    const stopWaiting = withResponseTimeout(options, signal, (failure) => request.destroy(failure));
    if (method === 'CONNECT') request.removeHeader('Connection');

    const onSwitched = (response: IncomingMessage, _socket: unknown, head: Buffer): void => {
      stopWaiting();
      if (head.length > 0) socket.unshift(head);
      resolve({ response, status: response.statusCode!, body: socket, switched: true });
    };
    request.on(method === 'CONNECT' ? 'connect' : 'upgrade', onSwitched);
    request.on('response', (response) => {
      stopWaiting();
      resolve({ response, status: response.statusCode!, body: response, switched: false });
    });
    request.on('error', (error) => {
      stopWaiting();
      socket.destroy();
      reject(noAnswer(error, peer));
    });
    request.end(options.body);
  });
}

/** Calls `fail` with the error to report, once, when the response takes too long or `signal` aborts. Returns the function that stops the wait. */
export function withResponseTimeout(
  { peer, answerMs: limitMs = answerMs }: Pick<HttpRequest, 'peer' | 'answerMs'>,
  signal: AbortSignal,
  fail: (failure: ClientError) => void,
): () => void {
  // An intermediary that swallows an upgrade looks like this; another entry can pass where this one did not.
  const onSilence = (): void =>
    fail(
      new ClientError('UPGRADE_REFUSED', `${peer} did not answer the request`, {
        interruption: { how: 'silent' },
      }),
    );
  const onAborted = (): void => {
    clearTimeout(timer);
    fail(new ClientError('GATEWAY_TIMEOUT', `${peer} did not answer in time`));
  };
  const timer = setTimeout(onSilence, limitMs);
  // Never called before this function has returned.
  if (signal.aborted) process.nextTick(onAborted);
  const removeListener = signal.aborted ? undefined : onAbort(signal, onAborted);
  return () => {
    clearTimeout(timer);
    removeListener?.();
  };
}

/** Errors of a connection that broke. */
const losses = new Set([
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'ENETRESET',
]);
/** The parser's error for a connection that ended within the head of a response. */
const lostInResponse = new Set(['HPE_INVALID_EOF_STATE']);

/** Whether an error says that the connection broke, and nothing else. */
export function isLoss(error: unknown): boolean {
  const { code = '' } = (error ?? {}) as NodeJS.ErrnoException;
  return losses.has(code) || lostInResponse.has(code);
}

/** The error of a request that got no valid response. */
export function noAnswer(error: Error, peer: string): ClientError {
  if (error instanceof ClientError) return error;
  const { code = '' } = error as NodeJS.ErrnoException;
  if (isLoss(error)) {
    const what = lostInResponse.has(code) ? 'in the middle of its response' : 'without a response';
    return new ClientError('HTTP_UNEXPECTED', `${peer} closed the connection ${what}`, {
      cause: error,
      interruption: { how: 'lost' },
    });
  }
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new ClientError('HTTP_UNEXPECTED', `${peer} answered with headers that are too large`, {
      cause: error,
    });
  }
  const what = code || printable(error.message);
  return new ClientError('HTTP_UNEXPECTED', `the response of ${peer} is not HTTP (${what})`, {
    cause: error,
  });
}
