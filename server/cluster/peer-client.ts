import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { withDeadline } from '../../base/deadline.ts';
import { peerVersion, peerVersionField, peerVersionOf } from './peer-messages.ts';

export interface PeerRequest {
  readonly path: string;
  /** Absent: a GET. */
  readonly body?: object;
  readonly timeoutMs: number;
}

export interface PeerResponse {
  readonly status: number;
  /** The version of the messages that the process writes: see `peerVersion`. */
  readonly version: number;
  /** Parsed JSON, of any shape: the schemas are in `peer-messages.ts`. */
  readonly body: unknown;
}

/** The process listens, and does not answer. */
export class PeerTimeoutError extends Error {
  override readonly name = 'PeerTimeoutError';
}

const maxResponseBytes = 64 * 1024 * 1024;

/**
 * Sends a request to a process of the gateway over its unix socket, in JSON. Rejects with the error of the connection
 * (ECONNREFUSED when the process is gone), with `PeerTimeoutError`, with `RangeError` for a response of more than 64 MiB,
 * and with `SyntaxError` for one that is not JSON.
 */
export function requestJson(
  socketPath: string,
  { path, body, timeoutMs }: PeerRequest,
): Promise<PeerResponse> {
  return withDeadline(
    undefined,
    timeoutMs,
    async (signal) => {
      const response = await send(socketPath, path, body, signal);
      return {
        status: response.statusCode ?? 0,
        version: peerVersionOf(response.headers),
        body: await readJson(response, maxResponseBytes),
      };
    },
    { onTimeout: () => new PeerTimeoutError(`no answer from ${socketPath}`) },
  );
}

function send(
  socketPath: string,
  path: string,
  body: object | undefined,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const method = body === undefined ? 'GET' : 'POST';
  const headers = {
    [peerVersionField]: String(peerVersion),
    ...(body && { 'Content-Type': 'application/json' }),
  };
  return new Promise((resolve, reject) => {
    request({ socketPath, path, method, headers, agent: false, signal })
      .once('response', resolve)
      .on('error', reject)
      .end(body && JSON.stringify(body));
  });
}

/** The body of a message. Rejects when it is longer, and destroys the message then. */
export async function readJson(message: IncomingMessage, maxBytes: number): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxBytes) throw new RangeError(`an answer of more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString());
}
