import { deadlineSignal } from '../../../base/deadline.ts';
import { requestJson } from '../../http/json-request.ts';
import type { JsonResponse } from '../../http/json-request.ts';
import { ClientError, toFailure } from '../../errors/failure.ts';
import { direct } from '../direct.ts';
import { secureEgress } from '../tls/tls.ts';
import type { TrustSources } from '../tls/tls.ts';

const fetchMs = 5000;
const maxBytes = 1024 * 1024;
const maxRedirections = 3;

/** Fetches a PAC file by a direct connection, within 5 s. Throws `PAC_FAILED`. */
export async function fetchPac(url: URL, trust: TrustSources, signal: AbortSignal): Promise<string> {
  try {
    return await follow(url, trust, deadlineSignal(signal, fetchMs));
  } catch (cause) {
    // Without the path, which can hold a secret.
    throw new ClientError(
      'PAC_FAILED',
      `cannot fetch the PAC file of ${url.host}: ${toFailure(cause).message}`,
      {
        cause,
      },
    );
  }
}

async function follow(url: URL, trust: TrustSources, signal: AbortSignal): Promise<string> {
  let at = url;
  for (let count = 0; count <= maxRedirections; count++) {
    const egress = at.protocol === 'https:' ? secureEgress(direct, trust) : direct;
    const headers = { Accept: 'application/x-ns-proxy-autoconfig, */*;q=0.8' };
    const reply = await requestJson(egress, { method: 'GET', url: at, headers }, signal);
    const { status, response } = reply.answer;
    const { location } = response.headers;
    if (status === 200) return readText(reply);
    response.destroy();
    const isMoved = [301, 302, 303, 307, 308].includes(status) && location !== undefined;
    if (!isMoved || !URL.canParse(location, at)) throw new ClientError('PAC_FAILED', `it answered ${status}`);
    const next = new URL(location, at);
    if (next.protocol !== 'https:' && (next.protocol !== 'http:' || at.protocol === 'https:'))
      throw new ClientError('PAC_FAILED', 'it redirects from https to an insecure URL');
    at = next;
  }
  throw new ClientError('PAC_FAILED', 'it redirects too often');
}

async function readText({ answer: { response } }: JsonResponse): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size > maxBytes) throw new RangeError(`it is larger than ${maxBytes} bytes`);
    }
  } finally {
    response.destroy();
  }
  const charset = /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(response.headers['content-type'] ?? '')?.[1];
  return decodePac(Buffer.concat(chunks), charset);
}

/** Decodes a PAC file by its byte order mark, else by `charset`, else as UTF-8 where it is that and as windows-1252 where not. */
export function decodePac(bytes: Uint8Array, charset?: string): string {
  const mark = bytes.subarray(0, 2);
  if (mark[0] === 0xfe && mark[1] === 0xff) return new TextDecoder('utf-16be').decode(bytes);
  if (mark[0] === 0xff && mark[1] === 0xfe) return new TextDecoder('utf-16le').decode(bytes);
  for (const encoding of ['utf-8', charset ?? 'windows-1252']) {
    try {
      return new TextDecoder(encoding, { fatal: true }).decode(bytes);
    } catch {
      // Not in this encoding, or one that is not known.
    }
  }
  return Buffer.from(bytes).toString('latin1');
}
