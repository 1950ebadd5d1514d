import { STATUS_CODES } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { TunnelError } from '../../protocol/errors.ts';
import { formatResponseHead } from '../../protocol/http-head.ts';
import { proofAlgorithms } from '../auth/dpop/dpop.ts';
import { closeAfter } from '../../stream/close.ts';

/** What a refusal says besides its code: where a challenge goes depends on the protocol that was spoken. */
export interface RefusalStyle {
  /** `origin`: 401 and WWW-Authenticate. `proxy`: 407 and Proxy-Authenticate (RFC 9110 §11.7). */
  readonly speaksAs: 'origin' | 'proxy';
}

/** The body of a refusal (RFC 9457). */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly requestId: string;
}

/** What `WWW-Authenticate` offers: tokens, and tokens with proof. */
export const originChallenges: readonly string[] = [
  'Bearer realm="postern"',
  `DPoP algs="${proofAlgorithms.join(' ')}"`,
];
const proxyChallenges = ['Bearer realm="postern"', 'Basic realm="postern", charset="UTF-8"'];
const retryAfterSeconds = 5;

/**
 * The error as a stranger may see it: whether a token was missing or bad, and why, is for the audit alone.
 */
export function errorForCaller(error: TunnelError): TunnelError {
  if (error.facts.status === 401)
    return new TunnelError('TOKEN_INVALID', 'sign in: the request brought no valid token');
  if (error.facts.status === 0)
    return new TunnelError('INTERNAL', 'the gateway failed; its log has the cause');
  return error;
}

/** The problem document for an error, already in the form a stranger may see. */
export function problemOf(error: TunnelError, requestId: string, status = error.facts.status): Problem {
  return {
    type: `urn:postern:error:${error.code}`,
    title: STATUS_CODES[status] ?? 'Error',
    status,
    detail: error.message,
    code: error.code,
    requestId,
  };
}

/**
 * Answers no, and closes the connection: a refused CONNECT or upgrade is never used again (RFC 9931, and
 * HAProxy would send another client's request into it). Takes the socket over. The body is never empty, because
 * PuTTY waits for a byte after the head.
 */
export function refuse(socket: Socket, error: TunnelError, requestId: string, style: RefusalStyle): void {
  if (socket.destroyed) return;
  const { status, reason, headers, body } = refusalFor(error, requestId, style);
  closeAfter(socket, formatResponseHead(status, reason, headers) + body);
}

/** Answers no to a request that is no upgrade, and closes the connection: its body may be unread. */
export function refuseRequest(response: ServerResponse, error: TunnelError, requestId: string): void {
  if (response.headersSent || response.destroyed) return void response.destroy();
  const { status, reason, headers, body } = refusalFor(error, requestId, { speaksAs: 'origin' });
  response.on('error', () => {});
  response.writeHead(status, reason, headers.flat()).end(body);
}

interface Refusal {
  readonly status: number;
  readonly reason: string;
  readonly headers: readonly [string, string][];
  readonly body: string;
}

function refusalFor(error: TunnelError, requestId: string, style: RefusalStyle): Refusal {
  const shown = errorForCaller(error);
  const status = shown.facts.status === 401 && style.speaksAs === 'proxy' ? 407 : shown.facts.status;
  const body = `${JSON.stringify(problemOf(shown, requestId, status))}\n`;
  const headers: [string, string][] = [
    ['Content-Type', 'application/problem+json'],
    ['Content-Length', String(Buffer.byteLength(body))],
    ['Cache-Control', 'no-store'],
    ['X-Request-Id', requestId],
    // A client whose clock is wrong learns here what time its proofs have to say.
    ['Date', new Date().toUTCString()],
    ['Connection', shown.facts.status === 426 ? 'close, Upgrade' : 'close'],
  ];
  if (status === 401) for (const challenge of originChallenges) headers.push(['WWW-Authenticate', challenge]);
  if (status === 407)
    for (const challenge of proxyChallenges) headers.push(['Proxy-Authenticate', challenge]);
  if (status === 426) headers.push(['Upgrade', 'websocket, connect-tcp']);
  if (shown.facts.retry && (status === 429 || status === 503))
    headers.push(['Retry-After', String(retryAfterSeconds)]);
  if (shown.facts.proxyStatus) {
    headers.push(['Proxy-Status', `postern; error=${shown.facts.proxyStatus}; details="${shown.code}"`]);
  }
  // Some CONNECT clients show nothing but the reason phrase.
  return { status, reason: `${STATUS_CODES[status]} (${shown.code})`, headers, body };
}
