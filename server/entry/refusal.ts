import { STATUS_CODES } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { TunnelError } from '../../protocol/errors.ts';
import { formatResponseHead } from '../../protocol/http-head.ts';
import { closeAfter } from '../../stream/close.ts';
import type { Challenge } from '../auth/authenticator.ts';

/** The form of a refusal: the place of a challenge depends on the protocol that the client speaks. */
export interface RefusalStyle {
  /** `origin`: 401 and WWW-Authenticate. `proxy`: 407 and Proxy-Authenticate (RFC 9110 §11.7). */
  readonly speaksAs: 'origin' | 'proxy';
  /** For a 401 or 407, which must have one (RFC 9110 §15.5.2). */
  readonly challenge?: Challenge | undefined;
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

const retryAfterSeconds = 5;

/** The error in the form that a caller is allowed to see: whether a token was missing or bad, and why, is for the audit alone. */
export function errorForCaller(error: TunnelError): TunnelError {
  if (error.facts.status === 401)
    return new TunnelError('TOKEN_INVALID', 'sign in: the request has no valid token');
  if (error.facts.status === 0)
    return new TunnelError('INTERNAL', 'the gateway failed; its log has the cause');
  return error;
}

/** The problem document for an error that is already in the form for the caller. */
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
 * Refuses and closes the connection: a refused CONNECT or upgrade is never used again (RFC 9931, and
 * HAProxy would send another client's request into it). Takes the socket over. The body is never empty, because
 * PuTTY waits for a byte after the head.
 */
export function refuse(socket: Socket, error: TunnelError, requestId: string, style: RefusalStyle): void {
  if (socket.destroyed) return;
  const { status, reason, headers, body } = refusalFor(error, requestId, style);
  closeAfter(socket, formatResponseHead(status, reason, headers) + body);
}

/** Refuses a request that is no upgrade, and closes the connection: its body can be unread. Takes the response over. */
export function refuseRequest(
  response: ServerResponse,
  error: TunnelError,
  requestId: string,
  challenge?: Challenge,
): void {
  if (response.headersSent || response.destroyed) return void response.destroy();
  const { status, reason, headers, body } = refusalFor(error, requestId, { speaksAs: 'origin', challenge });
  response.on('error', () => {});
  response.writeHead(status, reason, headers.flat()).end(body);
}

interface Refusal {
  readonly status: number;
  readonly reason: string;
  readonly headers: readonly [string, string][];
  readonly body: string;
}

function refusalFor(error: TunnelError, requestId: string, { speaksAs, challenge }: RefusalStyle): Refusal {
  const visible = errorForCaller(error);
  const status = visible.facts.status === 401 && speaksAs === 'proxy' ? 407 : visible.facts.status;
  const body = `${JSON.stringify(problemOf(visible, requestId, status))}\n`;
  const headers: [string, string][] = [
    ['Content-Type', 'application/problem+json'],
    ['Content-Length', String(Buffer.byteLength(body))],
    ['Cache-Control', 'no-store'],
    ['X-Request-Id', requestId],
    // A client whose clock is wrong learns here what time its proofs must have.
    ['Date', new Date().toUTCString()],
    ['Connection', visible.facts.status === 426 ? 'close, Upgrade' : 'close'],
    ...challengeFields(status, challenge),
  ];
  if (status === 426) headers.push(['Upgrade', 'websocket, connect-tcp']);
  if (visible.facts.retry && (status === 429 || status === 503))
    headers.push(['Retry-After', String(retryAfter(visible))]);
  if (visible.facts.proxyStatus) {
    headers.push(['Proxy-Status', `postern; error=${visible.facts.proxyStatus}; details="${visible.code}"`]);
  }
  // Some CONNECT clients show nothing but the reason phrase.
  return { status, reason: `${STATUS_CODES[status]} (${visible.code})`, headers, body };
}

/** In whole seconds, and never 0: a client would come back at once. */
function retryAfter({ retryAfterMs }: TunnelError): number {
  return retryAfterMs === undefined ? retryAfterSeconds : Math.max(1, Math.ceil(retryAfterMs / 1000));
}

function challengeFields(status: number, challenge: Challenge | undefined): readonly [string, string][] {
  if (status === 401) return (challenge?.origin ?? []).map((value) => ['WWW-Authenticate', value]);
  if (status === 407) return (challenge?.proxy ?? []).map((value) => ['Proxy-Authenticate', value]);
  return [];
}
