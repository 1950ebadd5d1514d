import type { IncomingMessage } from 'node:http';
import { TunnelError } from '../../protocol/errors.ts';

/** Header fields of which a request that opens a tunnel may have one at most. */
const single = new Set([
  'host',
  'authorization',
  'proxy-authorization',
  'upgrade',
  'origin',
  'dpop',
  'sec-websocket-key',
  'sec-websocket-version',
  'postern-carrier',
  'postern-rejoin',
]);

/** What gcloud sends. No page can: a browser's origin is `null`, or has `://` in it (RFC 6454 section 6.2). */
const programs = new Set(['bot:iap-tunneler']);

/**
 * Checks what Node's parser lets through and a tunnel must not be built on: two requests that a proxy and we could
 * read differently. Throws `REQUEST_INVALID`, and `ORIGIN_DENIED` for a web page that is not listed.
 */
export function checkRequest(request: IncomingMessage, origins: readonly string[]): void {
  const seen = fieldNames(request);
  if (hasBody(seen)) throw invalid('it has a body');
  const { method, httpVersion } = request;
  if (httpVersion === '1.1' ? !seen.has('host') : method !== 'CONNECT' || httpVersion !== '1.0') {
    throw invalid(httpVersion === '1.1' ? 'it has no Host field' : 'it is not HTTP/1.1');
  }
  if (method !== 'CONNECT' && method !== 'GET') throw invalid('an upgrade is a GET');
  checkCaller(request, seen, origins);
}

/**
 * The same for a request that is no upgrade. It may come by HTTP/1.0, as nginx speaks it by default, and bring a body
 * only where one is expected.
 */
export function checkPlainRequest(
  request: IncomingMessage,
  origins: readonly string[],
  { mayHaveBody }: { readonly mayHaveBody: boolean },
): void {
  const seen = fieldNames(request);
  const isEmpty = !seen.has('transfer-encoding') && (request.headers['content-length'] ?? '0') === '0';
  if (!mayHaveBody && !isEmpty) throw invalid('it has a body');
  if (!seen.has('host')) throw invalid('it has no Host field');
  checkCaller(request, seen, origins);
}

/** Throws `REQUEST_INVALID` when one is there twice that may be there once. */
function fieldNames({ rawHeaders }: IncomingMessage): ReadonlySet<string> {
  const seen = new Set<string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase();
    if (single.has(name) && seen.has(name)) throw invalid(`it has two ${name} fields`);
    seen.add(name);
  }
  return seen;
}

function hasBody(seen: ReadonlySet<string>): boolean {
  return seen.has('content-length') || seen.has('transfer-encoding');
}

function checkCaller(
  { headers: { origin } }: IncomingMessage,
  seen: ReadonlySet<string>,
  origins: readonly string[],
): void {
  if (seen.has('authorization') && seen.has('proxy-authorization')) throw invalid('it signs in twice');
  if (origin !== undefined && !programs.has(origin) && !origins.includes(origin)) {
    throw new TunnelError('ORIGIN_DENIED', 'web pages of this origin may not open tunnels');
  }
}

function invalid(why: string): TunnelError {
  return new TunnelError('REQUEST_INVALID', `this request cannot open a tunnel: ${why}`);
}
