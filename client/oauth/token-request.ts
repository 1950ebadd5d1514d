import { definedOnly } from '../../base/defined-only.ts';
import { Secret } from '../../protocol/secret.ts';
import { requestJson, readObject, unexpected } from '../http/json-request.ts';
import type { Egress } from '../egress/egress.ts';
import { challengeOf } from '../http/refusal.ts';
import type { GatewayChallenge } from '../errors/failure.ts';
import { clockOffset, createDpopProof, isClockOff } from './dpop.ts';
import type { ProofKey } from './dpop.ts';

/** An access token with less time left is renewed before it is used. */
const renewalMs = 60_000;

/** In seconds, as `expires_in`; a longer lifetime is not plausible, and would exceed the range of dates. */
const maxLifetimeSeconds = 10 * 365 * 86_400;

/** The client's side of a request to the token endpoint. */
export interface TokenRequest {
  readonly endpoint: URL;
  readonly clientId: string;
  readonly key: ProofKey;
  readonly clockOffsetMs: number;
}

/** Tokens bound to the key, or the error of the token endpoint (RFC 6749 §5.2). */
export type TokenAnswer = IssuedTokens | TokenEndpointError;

export interface IssuedTokens {
  readonly kind: 'issued';
  readonly accessToken: Secret;
  readonly refreshToken?: Secret;
  /** When to renew the access token; milliseconds since the epoch by the local clock, as `expiresAt`. */
  readonly renewAt: number;
  readonly expiresAt: number;
  readonly clockOffsetMs: number;
}

export interface TokenEndpointError {
  readonly kind: 'refused';
  /** Like `invalid_grant`. */
  readonly error: string;
  readonly description?: string;
}

/**
 * Sends a request to the token endpoint with a DPoP proof. When the endpoint rejects the proof, sends it again with each
 * possible remedy once: the nonce that the endpoint asks for (RFC 9449 §8), the endpoint's time. Throws as `requestJson`, and `HTTP_UNEXPECTED` for a response that is neither tokens nor an error, or tokens
 * that are not bound to the key.
 */
export async function requestTokens(
  request: TokenRequest,
  form: Readonly<Record<string, string>>,
  egressRequest: { readonly egress: Egress; readonly signal: AbortSignal },
): Promise<TokenAnswer> {
  let { clockOffsetMs } = request;
  let nonce: string | undefined;
  const remedies = new Set(['nonce', 'clock']);
  for (;;) {
    const attempt = { ...request, clockOffsetMs };
    const { answer, challenge } = await requestOnce(attempt, form, {
      ...egressRequest,
      ...definedOnly({ nonce }),
    });
    if (answer.kind === 'issued') return answer;
    if (answer.error === 'use_dpop_nonce' && challenge.nonce !== undefined && remedies.delete('nonce')) {
      ({ nonce } = challenge);
    } else if (
      answer.error === 'invalid_dpop_proof' &&
      isClockOff(challenge, clockOffsetMs) &&
      remedies.delete('clock')
    ) {
      // The clock was set since the last response. A nonce that the endpoint sends with the refusal is newer.
      clockOffsetMs = clockOffset(challenge);
      nonce = challenge.nonce ?? nonce;
    } else return answer;
  }
}

async function requestOnce(
  { endpoint, clientId, key, clockOffsetMs }: TokenRequest,
  form: Readonly<Record<string, string>>,
  {
    egress,
    signal,
    nonce,
  }: { readonly egress: Egress; readonly signal: AbortSignal; readonly nonce?: string },
): Promise<{ readonly answer: TokenAnswer; readonly challenge: GatewayChallenge }> {
  const proof = createDpopProof(key, {
    method: 'POST',
    url: endpoint,
    now: Date.now() + clockOffsetMs,
    ...(nonce === undefined ? {} : { nonce }),
  });
  const reply = await requestJson(
    egress,
    { method: 'POST', url: endpoint, form: { ...form, client_id: clientId }, headers: { DPoP: proof } },
    signal,
  );
  const challenge = challengeOf(reply.answer.response);
  const body = await readObject(reply);
  if (reply.answer.status === 200) {
    const issued = readTokens(body, clockOffset(challenge));
    if (issued !== undefined) return { answer: issued, challenge };
    throw unexpected(reply, 'issued tokens that are not bound to the key of this sign-in');
  }
  const { error, error_description: description } = body;
  if (reply.answer.status >= 500 || typeof error !== 'string')
    throw unexpected(reply, `answered ${reply.answer.status} to a token request`);
  return {
    answer: { kind: 'refused', error, ...(typeof description === 'string' ? { description } : {}) },
    challenge,
  };
}

function readTokens(
  body: Readonly<Record<string, unknown>>,
  clockOffsetMs: number,
): IssuedTokens | undefined {
  const { access_token: access, refresh_token: refresh, token_type: type, expires_in: life } = body;
  // A token of another type would work without the key.
  if (typeof type !== 'string' || type.toLowerCase() !== 'dpop') return undefined;
  if (!isToken(access) || typeof life !== 'number' || !(life > 0 && life <= maxLifetimeSeconds))
    return undefined;
  if (refresh !== undefined && !isToken(refresh)) return undefined;
  const lifeMs = life * 1000;
  const expiresAt = Date.now() + lifeMs;
  return {
    kind: 'issued',
    accessToken: new Secret(access),
    ...(refresh === undefined ? {} : { refreshToken: new Secret(refresh) }),
    renewAt: expiresAt - Math.min(renewalMs, lifeMs / 2),
    expiresAt,
    clockOffsetMs,
  };
}

function isToken(value: unknown): value is string {
  return typeof value === 'string' && value.length <= 8192 && /^[A-Za-z0-9\-._~+/]+=*$/.test(value);
}
