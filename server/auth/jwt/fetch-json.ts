import { Buffer } from 'node:buffer';
import { once } from 'node:events';
import * as http from 'node:http';
import * as https from 'node:https';

export interface FetchJsonOptions {
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

/**
 * Gets a JSON document: status 200 only, no redirects, whole within the time and size. Throws an `Error` for anything else.
 * Each time on a connection of its own: an answer that went wrong cannot be taken for the next one (CVE-2026-48931).
 */
export async function fetchJson(url: URL, { timeoutMs, maxBytes }: FetchJsonOptions): Promise<unknown> {
  const signal = AbortSignal.timeout(timeoutMs);
  const { request } = url.protocol === 'https:' ? https : http;
  const asked = request(url, {
    agent: false,
    signal,
    maxHeaderSize: 16_384,
    headers: { accept: 'application/json', 'accept-encoding': 'identity', 'user-agent': 'postern' },
  });
  // The time can be over between the answer's head and its body: an `error` that nobody hears ends the process.
  asked.on('error', ignore);
  asked.end();
  try {
    const [response] = (await once(asked, 'response')) as [http.IncomingMessage];
    if (response.statusCode !== 200) throw new Error(`status ${response.statusCode} instead of 200`);
    return JSON.parse(await readText(response, maxBytes)) as unknown;
  } catch (cause) {
    const why = signal.aborted ? `no answer in ${timeoutMs} ms` : (cause as Error).message;
    throw new Error(`cannot get ${url.origin}${url.pathname}: ${why}`, { cause });
  } finally {
    asked.destroy();
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
