import { request } from 'node:http';
import type { IncomingMessage } from 'node:http';

export interface PeerRequest {
  readonly path: string;
  /** Absent: a GET. */
  readonly body?: object;
  readonly timeoutMs: number;
}

export interface PeerResponse {
  readonly status: number;
  readonly body: unknown;
}

/** The process listens, and says nothing. */
export class PeerTimeoutError extends Error {
  override readonly name = 'PeerTimeoutError';
}

const maxAnswerBytes = 64 * 1024 * 1024;

/**
 * Asks a process of the gateway over its unix socket, in JSON. Rejects with the error of the connection (ECONNREFUSED
 * when the process is gone), with `PeerTimeoutError`, and with `SyntaxError` for an answer that is no JSON.
 */
export function requestJson(socketPath: string, { path, body, timeoutMs }: PeerRequest): Promise<PeerResponse> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers = text === undefined ? {} : { 'Content-Type': 'application/json' };
  const method = text === undefined ? 'GET' : 'POST';
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath, path, method, headers, agent: false }, (response) => {
      readJson(response, maxAnswerBytes)
        .then((answer) => resolve({ status: response.statusCode ?? 0, body: answer }), reject)
        .finally(() => clearTimeout(late));
    });
    const late = setTimeout(() => asking.destroy(new PeerTimeoutError(`no answer from ${socketPath}`)), timeoutMs);
    asking.once('error', (error) => {
      clearTimeout(late);
      reject(error);
    });
    asking.end(text);
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
