import type { IncomingMessage } from 'node:http';
import { TunnelError } from '../../protocol/errors.ts';

/** Header fields that a request for a tunnel must not repeat. */
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

/** The origin that gcloud sends. No page can: a browser's origin is `null`, or contains `://` (RFC 6454 section 6.2). */
const programs = new Set(['bot:iap-tunneler']);

/**
 * Checks for what Node's parser accepts and a tunnel must not rest on: a request that a proxy and the gateway could read
 * differently. Throws `REQUEST_INVALID`, and `ORIGIN_DENIED` for a web page that is not listed. `ownOrigin` is that of the
 * gateway's URL, which some WebSocket libraries send by themselves: it passes with credentials in a field, which a page
 * cannot add to an upgrade (WebSockets, section 3.1).
 */
export function checkRequest(request: IncomingMessage, origins: readonly string[], ownOrigin?: string): void {
  const seen = fieldNames(request);
  if (hasBody(seen)) throw invalid('it has a body');
  const { method, httpVersion } = request;
  if (httpVersion === '1.1' ? !seen.has('host') : method !== 'CONNECT' || httpVersion !== '1.0') {
    throw invalid(httpVersion === '1.1' ? 'it has no Host field' : 'it is not HTTP/1.1');
  }
  if (method !== 'CONNECT' && method !== 'GET') throw invalid('an upgrade must use GET');
  const isProgram = seen.has('authorization') || seen.has('proxy-authorization');
  checkCaller(request, seen, ownOrigin !== undefined && isProgram ? [...origins, ownOrigin] : origins);
}

/**
 * The same for a request that is no upgrade. It can come by HTTP/1.0, which nginx uses by default, and have a body only
 * where one is expected.
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

/** The names of the fields, in lower case. Throws `REQUEST_INVALID` for one that is repeated and must not be. */
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
  if (seen.has('authorization') && seen.has('proxy-authorization')) throw invalid('it has two credentials');
  if (
    origin !== undefined &&
    !programs.has(origin) &&
    !origins.includes(origin) &&
    !origins.includes(serialized(origin))
  ) {
    throw new TunnelError('ORIGIN_DENIED', 'web pages of this origin are not allowed to open tunnels');
  }
}

/** An origin as browsers write it: in small letters, without a default port. Programs write what was typed. */
function serialized(origin: string): string {
  return URL.parse(origin)?.origin ?? origin;
}

function invalid(why: string): TunnelError {
  return new TunnelError('REQUEST_INVALID', `this request cannot open a tunnel: ${why}`);
}
