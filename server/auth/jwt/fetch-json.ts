import { Buffer } from 'node:buffer';
import { once } from 'node:events';
import * as http from 'node:http';
import * as https from 'node:https';

export interface FetchJsonOptions {
  /** The time for the whole exchange, in milliseconds. */
  readonly timeoutMs: number;
  /** The largest accepted body, in bytes. */
  readonly maxBytes: number;
}

/**
 * Gets a JSON document: status 200 only, no redirects, complete within the limits of time and size. Rejects with an `Error`
 * otherwise. Each request has a connection of its own: no leftover of a failed response can be read as the next one (CVE-2026-48931).
 */
export async function fetchJson(url: URL, { timeoutMs, maxBytes }: FetchJsonOptions): Promise<unknown> {
  const signal = AbortSignal.timeout(timeoutMs);
  const { request: createRequest } = url.protocol === 'https:' ? https : http;
  const request = createRequest(url, {
    agent: false,
    signal,
    maxHeaderSize: 16_384,
    headers: { accept: 'application/json', 'accept-encoding': 'identity', 'user-agent': 'postern' },
  });
  // Time can run out between the head of the response and its body: an `error` without a listener ends the process.
  request.on('error', ignore);
  request.end();
  try {
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    if (response.statusCode !== 200) throw new Error(`status ${response.statusCode} instead of 200`);
    return JSON.parse(await readText(response, maxBytes)) as unknown;
  } catch (cause) {
    const why = signal.aborted ? `no answer in ${timeoutMs} ms` : (cause as Error).message;
    throw new Error(`cannot get ${url.origin}${url.pathname}: ${why}`, { cause });
  } finally {
    request.destroy();
  }
}

async function readText(response: http.IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new Error(`the answer is longer than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
}

function ignore(): void {}
